"""What the README promises: it is one page, its commands are those of CI, its examples give what they show."""

import re
from pathlib import Path

from test_docs import ROOT, blocks_of, run_session

PAGE = ROOT / "README.md"
README = PAGE.read_text()


def blocks(language):
    return [block.text for block in blocks_of(PAGE) if block.language == language]


def test_the_readme_is_one_page():
    assert len(README.splitlines()) <= 200
    assert max(len(line) for line in README.splitlines() if not line.startswith(("|", "!["))) <= 128


def test_ci_runs_the_test_command_of_the_readme_word_for_word():
    command = next(block.strip() for block in blocks("bash") if "pytest" in block)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_query_example_prints_what_it_shows(published):
    example = next(block for block in blocks("python") if ">>>" in block)
    assert example.count(">>>") == 6
    frame = run_session(example, {}, PAGE)["frame"]
    assert len(frame) == 16384


def test_the_method_example_fulfils_the_contract():
    from harness.check.checker import check_method

    names = {"__name__": "my_method"}
    exec(next(block for block in blocks("python") if "class MyMethod" in block), names)
    findings = check_method(names["MyMethod"], device="cpu")
    assert [finding for finding in findings if finding.failed] == []
    assert {finding.check: finding.outcome for finding in findings}["progress"] == "passed"


def test_every_folder_of_the_tree_exists_and_no_room_is_left_out():
    tree = next(block for block in blocks("") if "channel_bench/ " in block)
    listed: list[Path] = []
    above: list[Path] = []  # the folders that the line lies in, by its depth
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        folder = (above[depth - 1] if depth else ROOT) / line.split()[0].rstrip("/")
        above[depth:] = [folder]
        assert folder.is_dir(), folder
        assert len(line.split()) > 1, f"{folder} has no phrase"
        listed.append(folder)
    rooms = {path.parent for package in ("channel_bench", "harness") for path in (ROOT / package).rglob("__init__.py")}
    assert rooms <= set(listed) and len(set(listed)) == len(listed)


def test_the_nine_methods_are_nine():
    from harness.method import SUPERNETS

    assert "The nine methods" in re.sub(r"\s+", " ", README) and len(SUPERNETS) == 9
