"""What the JSON of an entry must hold: its keys, and the kind of value of each.

>>> check_entry(path, json.loads(path.read_bytes()))       # one line for the first thing that is wrong
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import list_spaces
from harness.judge.baselines import BASELINES
from harness.judge.groups import check_name
from harness.report.sheets import is_link
from harness.smoothing import FORMS

ENTRY_KEYS = ("method", "paper", "url", "code", "notes", "results")
RESULT_KEYS = ("scores", "seeds", "compute", "reported")
SCORES_KEYS = (("file", "sha256"), ("baseline",), ("external", "sha256", "source"), ("derived", "form"))
COMPUTE_KEYS = ("train_gmac", "fit_s", "device")
REPORTED_KEYS = ("kendall", "spearman", "pearson", "source")
MAX_SEED = 2**63 - 1
MAX_SEEDS = 1000
MAX_COMPUTE = 1e15
"""Of GMAC and of seconds: more than any machine does."""
MAX_FILE_NAME = 255
"""Bytes of a file name, on all file systems in use."""
MAX_TEXT = 2000
"""Characters of a text of an entry."""


def check_entry(path: Path, content: Any) -> None:
    """Refuse an entry that lacks a key, has an unknown one, or a value of the wrong kind.

    Args:
        path: Of its file, for the message.
        content: As read from JSON.

    Raises:
        ArgumentError: The first thing that is wrong: a key, a type or a value out of range.
        UnknownNameError: There is no such space or baseline.
    """
    check = _Check(path)
    check.keys("the entry", content, ENTRY_KEYS)
    check.text("method", content["method"], allow_none=False)
    # The entry of a free baseline has the reserved name of that baseline.
    is_baseline = content["method"] in BASELINES
    for key in ("paper", "url", "code", "notes"):
        check.text(key, content[key])
    try:
        if not is_baseline:
            check_name(content["method"])
        if content["url"] is not None:
            check_url(content["url"])
    except ArgumentError as error:
        check.fail(str(error))
    check.kind("results", content["results"], dict, allow_none=False)
    if not content["results"]:
        check.fail("results is empty: at least one space is needed")
    for space, result in content["results"].items():
        check.result(space, result, content["method"])


def check_url(address: str) -> None:
    """Refuse an address that is not one of the web.

    Raises:
        ArgumentError: It does not begin with http:// or https://.
    """
    if not is_link(address):
        raise ArgumentError(f"url {address[:60]!r} is not an address: allowed are http:// and https://")


class _Check:
    """Checks of one entry, whose messages begin with its path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fail(self, what: str) -> None:
        raise ArgumentError(f"entry {str(self._path)!r}: {what}")

    def keys(self, where: str, value: Any, wanted: Sequence[str]) -> None:
        """The value is a dict with exactly these keys."""
        self.kind(where, value, dict, allow_none=False)
        missing = [key for key in wanted if key not in value]
        unknown = [key for key in value if key not in wanted]
        if missing or unknown:
            wrong = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(unknown)}"] * bool(unknown)
            self.fail(f"{where} {' and '.join(wrong)}: its keys are {', '.join(wanted)}")

    def kind(self, where: str, value: Any, kind: type | tuple[type, ...], allow_none: bool = True) -> None:
        """The value is of a type; True and False are not numbers."""
        if (value is None and allow_none) or (isinstance(value, kind) and not isinstance(value, bool)):
            return
        names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        self.fail(f"{where} is {str(value)[:60]!r}: allowed is {names}{' or null' if allow_none else ''}")

    def text(self, where: str, value: Any, allow_none: bool = True) -> None:
        """The value is a text that fits a table."""
        self.kind(where, value, str, allow_none)
        if value is not None and len(value) > MAX_TEXT:
            self.fail(f"{where} has {len(value):,} characters: allowed are at most {MAX_TEXT:,}")

    def number(self, where: str, value: Any, low: float, high: float, allow_none: bool = True) -> None:
        """The value is a finite number of a range, ends included."""
        self.kind(where, value, (int, float), allow_none)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            self.fail(f"{where} is {value}: allowed are {low:g} to {high:g}")

    def result(self, space: str, value: Any, method: str) -> None:
        """What an entry says of one space."""
        if space not in list_spaces():
            raise unknown_name(
                f"space in entry {str(self._path)!r}", space, [*list_spaces(), "those of --space FILE.toml"]
            )
        self.keys(f"results of {space}", value, RESULT_KEYS)
        if value["scores"] is not None:
            self.scores(space, value["scores"])
            self.derived(space, value["scores"], method)
        if method in BASELINES and "baseline" not in (value["scores"] or {}):
            self.fail("its method has the name of a free baseline, whose scores are not given")
        self.kind(f"seeds of {space}", value["seeds"], list, allow_none=False)
        if len(value["seeds"]) > MAX_SEEDS:
            self.fail(f"{space} has {len(value['seeds']):,} seeds: allowed are at most {MAX_SEEDS:,}")
        for number, seed in enumerate(value["seeds"]):
            self.kind(f"a seed of {space}", seed, int, allow_none=False)
            if not 0 <= seed <= MAX_SEED:
                self.fail(f"a seed of {space} is {seed}: allowed are 0 to 2^63 - 1")
            if seed in value["seeds"][:number]:
                self.fail(f"seed {seed} of {space} is there twice: each seed has a column of its own")
        if value["compute"] is not None:
            self.compute(space, value["compute"])
        if value["reported"] is not None:
            self.reported(space, value["reported"])
        if value["scores"] is None and value["reported"] is None:
            self.fail(f"{space} has neither scores nor reported numbers")

    def scores(self, space: str, value: Any) -> None:
        """Where scores come from; the first key says which of SCORES_KEYS it must have."""
        self.kind(f"scores of {space}", value, dict)
        wanted = next((keys for keys in SCORES_KEYS if keys[0] in value), SCORES_KEYS[0])
        self.keys(f"scores of {space}", value, wanted)
        for key in wanted:
            self.text(f"{key} of {space}", value[key], allow_none=False)
        if "baseline" in value and value["baseline"] not in BASELINES:
            raise unknown_name(f"baseline in entry {str(self._path)!r}", value["baseline"], BASELINES)
        file = value.get("file", value.get("external", "file"))
        # A path would let an entry name any file of the reader's machine.
        if not file.isprintable() or Path(file).name != file or file in ("", ".", ".."):
            self.fail(f"score file {file[:60]!r} is not a file name: it lies beside the entry")
        if len(file.encode()) > MAX_FILE_NAME:
            self.fail(f"name of score file {file[:60]!r}... is longer than {MAX_FILE_NAME} bytes")
        if "sha256" in value and not re.fullmatch(r"[0-9a-f]{64}", value["sha256"]):
            self.fail(f"sha256 of {space} is {value['sha256'][:70]!r}: allowed are 64 hexadecimal digits")

    def derived(self, space: str, value: Any, method: str) -> None:
        """Scores that are a fit to those of another entry have its name and the form of the fit."""
        if "derived" not in value:
            return
        if value["form"] not in FORMS:
            raise unknown_name(f"form in entry {str(self._path)!r}", value["form"], FORMS)
        if method != f"{value['derived']}+{value['form']}":
            self.fail(f"its name is {method[:60]!r}: scores of {space} make it {value['derived']}+{value['form']}")

    def compute(self, space: str, value: Any) -> None:
        self.keys(f"compute of {space}", value, COMPUTE_KEYS)
        for key in COMPUTE_KEYS[:-1]:
            self.number(f"{key} of {space}", value[key], 0, MAX_COMPUTE)
        self.text(f"device of {space}", value["device"])

    def reported(self, space: str, value: Any) -> None:
        self.keys(f"reported of {space}", value, REPORTED_KEYS)
        for key in REPORTED_KEYS[:-1]:
            self.number(f"{key} of {space}", value[key], -1, 1)
        self.text(f"source of {space}", value["source"], allow_none=False)
