"""The scores that the package has of a space: those of the leaderboard's supernets, read once per process.

>>> sorted(leaderboard_scores(get_space("resnet-mini")))[:3]
['autoslim', 'bcnet', 'bcnet_v2']
"""

from __future__ import annotations

import functools

from channel_bench.errors import MissingDataError
from channel_bench.space import NUM_ARCHS, Space
from harness.leaderboard.entries import entries_dir, read_entries, read_entry_scores
from harness.method import PROXIES
from harness.scores import Scores


def leaderboard_scores(space: Space) -> dict[str, list[Scores]]:
    """Scores of the whole space by method, one for each supernet in the order of seeds.

    Raises:
        MissingDataError: The leaderboard has no scores of the space.
        ChannelBenchError: A file of the leaderboard is damaged.
    """
    found = scores_at_hand(space)
    if not found:
        raise MissingDataError(
            f"the leaderboard has no scores of space {space.name!r}: make some with 'channel-harness rank all' and"
            " 'channel-harness enter'"
        )
    return found


@functools.lru_cache(maxsize=4)
def scores_at_hand(space: Space) -> dict[str, list[Scores]]:
    """As `leaderboard_scores`; {} where there are none."""
    found = {}
    for entry in read_entries(entries_dir()):
        kept = entry.results.get(space.name)
        if kept is None or kept.scores is None or "file" not in kept.scores or entry.method in PROXIES:
            continue  # a baseline, numbers of a paper, a file that is not public, or no supernet
        scores = read_entry_scores(entry, space) or []
        if scores and all(len(each.values) == NUM_ARCHS for each in scores):
            found[entry.method] = scores
    return found
