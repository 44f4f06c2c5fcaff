"""What the JSON of an entry must hold: its keys, and the kind of value of each.

>>> check_entry(path, json.loads(path.read_bytes()))       # one line for the first thing that is wrong
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import list_spaces
from harness.judge.baselines import BASELINES
from harness.judge.groups import check_name
from harness.report.sheets import is_link

ENTRY_KEYS = ("method", "paper", "url", "code", "notes", "results")
RESULT_KEYS = ("scores", "seeds", "compute", "reported")
SCORES_KEYS = (("file", "sha256"), ("baseline",), ("external", "sha256", "source"))
COMPUTE_KEYS = ("train_gmac", "fit_s", "device")
REPORTED_KEYS = ("kendall", "spearman", "pearson", "source")


def check_entry(path: Path, content: Any) -> None:
    """Refuse an entry that lacks a key, has an unknown one, or a value of the wrong kind.

    Args:
        path: Of its file, for the message.
        content: As read from JSON.

    Raises:
        ArgumentError: The first thing that is wrong.
        UnknownNameError: There is no such space or baseline.
    """
    check = _Check(path)
    check.keys("the entry", content, ENTRY_KEYS)
    check.kind("method", content["method"], str, allow_none=False)
    # The entry of a free baseline has the reserved name of that baseline.
    is_baseline = content["method"] in BASELINES
    for key in ("paper", "url", "code", "notes"):
        check.kind(key, content[key], str)
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
        check.result(space, result, is_baseline)


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

    def result(self, space: str, value: Any, is_baseline: bool) -> None:
        """What an entry says of one space."""
        if space not in list_spaces():
            raise unknown_name(f"space in entry {str(self._path)!r}", space, list_spaces())
        self.keys(f"results of {space}", value, RESULT_KEYS)
        if value["scores"] is not None:
            self.scores(space, value["scores"])
        if is_baseline and "baseline" not in (value["scores"] or {}):
            self.fail("its method has the name of a free baseline, whose scores are not given")
        self.kind(f"seeds of {space}", value["seeds"], list, allow_none=False)
        for seed in value["seeds"]:
            self.kind(f"a seed of {space}", seed, int, allow_none=False)
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
            self.kind(f"{key} of {space}", value[key], str, allow_none=False)
        if "baseline" in value and value["baseline"] not in BASELINES:
            raise unknown_name(f"baseline in entry {str(self._path)!r}", value["baseline"], BASELINES)
        file = value.get("file", value.get("external", "file"))
        # A path would let an entry name any file of the reader's machine.
        if Path(file).name != file:
            self.fail(f"score file {file!r} is not a file name: it lies beside the entry")

    def compute(self, space: str, value: Any) -> None:
        self.keys(f"compute of {space}", value, COMPUTE_KEYS)
        for key, kind in zip(COMPUTE_KEYS, ((int, float), (int, float), (str,)), strict=True):
            self.kind(f"{key} of {space}", value[key], kind)

    def reported(self, space: str, value: Any) -> None:
        self.keys(f"reported of {space}", value, REPORTED_KEYS)
        for key in REPORTED_KEYS[:-1]:
            self.kind(f"{key} of {space}", value[key], (int, float))
        self.kind(f"source of {space}", value["source"], str, allow_none=False)
