"""No result moves: what this version makes against what an earlier one made, bit for bit (see results.py).

Skipped unless $CHANNEL_BENCH_RESULTS names a folder that ``tests/results.py`` filled with the earlier version on this
machine.
"""

import json
import os
from pathlib import Path

import pytest
import results

BEFORE = os.environ.get("CHANNEL_BENCH_RESULTS")


@pytest.mark.slow
def test_every_result_is_the_one_of_the_earlier_version(tmp_path):
    if not BEFORE:
        pytest.skip("CHANNEL_BENCH_RESULTS names no folder of results of an earlier version")
    results.make_results(tmp_path)
    before, after = ({path.name: path for path in sorted(Path(folder).glob("*.json"))} for folder in (BEFORE, tmp_path))
    assert len(before) > 20 and before.keys() == after.keys()
    moved = [name for name in before if json.loads(before[name].read_text()) != json.loads(after[name].read_text())]
    assert moved == []


def test_what_a_clock_decides_is_left_out():
    facts = {"seed": 0, "fit_s": 1.5, "runs": [{"train_s": 2.0, "run": 1}]}
    assert results.unclocked(facts) == {"seed": 0, "runs": [{"run": 1}]}
