"""What the README promises: its commands are those of CI, its examples give what they show, its files exist."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    """Code blocks of a language; "" for those without one."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if name == language]


def test_ci_runs_the_test_command_of_the_readme_word_for_word():
    command = next(block.strip() for block in blocks("bash") if "pytest" in block)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_query_example_prints_what_it_shows(published):
    example = next(block for block in blocks("python") if ">>>" in block)
    test = doctest.DocTestParser().get_doctest(example, {}, "README", None, None)
    assert len(test.examples) == 7
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.summarize().failed == 0


def test_the_plug_in_example_fulfils_the_contract(monkeypatch, digits):
    from harness import method
    from harness.ranking.run import rank
    from harness.task import make_task

    monkeypatch.setattr(method.METHODS, "_known", {})
    exec(next(block for block in blocks("python") if "@register" in block), {})
    task = make_task("resnet-mini", digits)
    scores = rank("widest", method.METHODS.find("widest").factory(), task)
    assert scores.values.tolist() == task.space.archs().sum(1).tolist()


def test_every_file_of_the_tree_exists_and_none_is_left_out():
    tree = next(block for block in blocks("") if "channel_bench/ " in block)
    folder, listed = "", set()
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
        else:
            listed.add(folder + name)
        assert (ROOT / (name if not line.startswith(" ") else folder + name)).exists(), name
    modules = {
        str(path.relative_to(ROOT))
        for package in ("channel_bench", "harness")
        for path in (ROOT / package).glob("*.py")
        if not path.name.startswith("_")
    }
    assert modules <= listed


def test_the_baselines_of_the_readme_are_those_of_the_published_tables(published):
    import channel_bench as cb
    from harness.judge.comparison import compare

    names = {
        "flops": "FLOPs",
        "params": "parameters",
        "sum-log-width": "sum of log widths",
        "log-paths": "log number of paths",
    }
    taus = {
        space: {row.name: row.kendall for row in compare(None, cb.load(space, data_dir=published)).rows}
        for space in ("mobilenet", "resnet")
    }
    for key, name in names.items():
        values = " | ".join(f"{taus[space][key]:.4f}".lstrip("0") for space in ("mobilenet", "resnet"))
        assert f"| {name} | {values} |" in README


@pytest.mark.parametrize("space", ["resnet", "mobilenet"])
def test_the_slot_table_of_the_readme_is_that_of_the_code(space):
    import channel_bench as cb

    column = {"resnet": 1, "mobilenet": 3}[space]
    maxima = []
    for line in README.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"\d(, \d)*", cells[0]):
            maxima += [int(cells[column])] * len(cells[0].split(", "))
    assert tuple(maxima) == cb.get_space(space).max_channels
    assert np.prod(maxima) > 0
