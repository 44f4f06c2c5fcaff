"""Which rankings belong together: score files by method, those of one method by the seed of its supernet.

>>> group_rankings([read_scores(path, space) for path in paths])["bcnet"]     # its seeds, ascending
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from channel_bench.errors import ArgumentError
from harness.judge.baselines import BASELINES
from harness.scores import Scores

MAX_NAME = 120
"""Characters of the name of a method."""
SETTINGS = ("dataset", "validated_on", "bn", "score_by", "num_train", "num_val", "recipe", "options")
"""Facts of a score file that make it another method, not another seed of the same."""


def named_groups(
    scores: Scores | Sequence[Scores] | Mapping[str, Scores | Sequence[Scores]] | None,
) -> dict[str, list[Scores]]:
    """Rankings by the name of their row, in whatever form they are given.

    Args:
        scores: Of one method; of several (`group_rankings`); by name; or None.

    Raises:
        ArgumentError: As `group_rankings`; or a name has no rankings, or something given is not a `Scores`.
    """
    if scores is None:
        return {}
    if isinstance(scores, Scores):
        groups = {scores.method: [scores]}
    elif isinstance(scores, Mapping):
        groups = {name: [given] if isinstance(given, Scores) else list(given) for name, given in scores.items()}
    else:
        if any(not isinstance(each, Scores) for each in scores):
            raise ArgumentError("a ranking is not a `Scores`: read it from its file with read_scores")
        groups = group_rankings(scores)
    for name, group in groups.items():
        check_name(name)
        if not group or any(not isinstance(each, Scores) for each in group):
            got = ", ".join(type(each).__name__ for each in group) or "nothing"
            raise ArgumentError(f"rankings of {name!r} are {got}: allowed is one `Scores` for each seed")
    return groups


def group_rankings(rankings: Sequence[Scores]) -> dict[str, list[Scores]]:
    """Rankings by the name of their method, each method's by seed.

    Rankings of one name are seeds of one method where they agree in SETTINGS. Otherwise they are methods of their own,
    named by what differs: "bcnet bn=recalibrated".

    Where no ranking of a name has a seed, as in CSV and JSON, they are numbered in the order given.

    Raises:
        ArgumentError: Two rankings of one name and settings have the same seed, or the same scores.
    """
    found: dict[str, list[Scores]] = {}
    for name in dict.fromkeys(each.method for each in rankings):
        mine = numbered([each for each in rankings if each.method == name])
        differing = [key for key in SETTINGS if len({_as_text(each.facts.get(key)) for each in mine}) > 1]
        for each in mine:
            setting = ", ".join(_difference(key, each, mine) for key in differing)
            found.setdefault(f"{name} {setting}".strip(), []).append(each)
    for name, group in found.items():
        seeds = [each.facts.get("seed") for each in group]
        twice = next((seed for number, seed in enumerate(seeds) if seed in seeds[:number]), seeds)
        if twice is not seeds:
            which = "no seed" if twice is None else f"seed {twice}"
            raise ArgumentError(
                f"two rankings of {name!r} have {which}: give each ranking once, or names as in NAME=FILE"
            )
        group.sort(key=_by_seed)
    return found


def numbered(rankings: Sequence[Scores]) -> list[Scores]:
    """Rankings of one method, with seeds 0, 1, ... where there are several and none of them has a seed.

    Raises:
        ArgumentError: Two have the same scores: one file given twice is not two seeds.
    """
    if len(rankings) < 2 or any(each.facts.get("seed") is not None for each in rankings):
        return list(rankings)
    for one, other in combinations(rankings, 2):
        if np.array_equal(one.indices, other.indices) and np.array_equal(one.values, other.values):
            raise ArgumentError(f"two rankings of {one.method!r} have the same scores: give each ranking once")
    return [dataclasses.replace(each, facts={**each.facts, "seed": number}) for number, each in enumerate(rankings)]


def check_name(name: str) -> None:
    """Refuse a name that is reserved, or that no table can show.

    Raises:
        ArgumentError: The name is empty, not printable, longer than MAX_NAME, or that of a free baseline.
    """
    if name in BASELINES or name == "noise ceiling":
        raise ArgumentError(
            f"{name!r} is reserved for a free baseline or the noise ceiling: rename yours, for instance with NAME=FILE"
        )
    if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        raise ArgumentError(
            f"{name[:MAX_NAME]!r} is not a name for a method: allowed are 1 to {MAX_NAME} printable characters"
        )


def _by_seed(scores: Scores) -> tuple[bool, int, str]:
    seed = scores.facts.get("seed")
    return (False, seed, "") if isinstance(seed, int) else (True, 0, str(seed))


def _difference(key: str, scores: Scores, others: Sequence[Scores]) -> str:
    """The setting as "key=value"; of one that is a dict, what of it differs."""
    value = scores.facts.get(key)
    if not isinstance(value, dict):
        return f"{key}={value}"
    values = [each.facts.get(key) for each in others]
    parts = [
        part for part in value if any(not isinstance(other, dict) or other.get(part) != value[part] for other in values)
    ]
    return ", ".join(f"{part}={value[part]}" for part in parts) or f"{key}={_as_text(value)}"


def _as_text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
