"""The committed results: tables and claims follow from the measured cells by the code as it is; pages say the same."""

import dataclasses
import json
import re

import pytest

from channel_bench.support.terminal import finite
from channel_bench.table.shipped import shipped_dir
from harness.experiments.contract import EXPERIMENTS, Setting
from harness.ranking.request import TaskOptions
from harness.report.sheets import to_markdown

FOLDER = shipped_dir() / "experiments"
RESULTS = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=[path.stem for path in RESULTS])
def test_a_committed_result_follows_from_its_cells(path):
    result = json.loads(path.read_text())
    setting = Setting(task=TaskOptions(space=result["space"]), num_seeds=result["setting"]["num_seeds"])
    experiment = EXPERIMENTS.make(result["experiment"])
    assert {cell.key for cell in experiment.cells(setting)} == set(result["cells"])
    outcome = experiment.outcome(result["cells"], setting)
    tables = json.loads(json.dumps(finite([dataclasses.asdict(sheet) for sheet in outcome.sheets])))
    assert tables == result["tables"]
    claims = [dataclasses.asdict(claim) | {"verdict": claim.verdict} for claim in outcome.claims]
    assert len(claims) == len(result["claims"])
    for now, before in zip(claims, result["claims"], strict=True):
        for key, value in now.items():
            assert before[key] == (pytest.approx(value, abs=1e-12) if isinstance(value, float) else value), key
    page = path.with_suffix(".md").read_text()
    assert all(to_markdown(sheet) in page for sheet in outcome.sheets)
    figures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", page)
    assert figures and all((FOLDER / name).is_file() for name in figures)


def test_there_are_some():
    assert len(RESULTS) >= 10
