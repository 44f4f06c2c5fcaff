"""The workflows: they parse, what they run exists, and they agree with README and setup.cfg."""

import configparser
import re
from pathlib import Path

import pytest
from test_docs import ROOT, blocks_of, check_command, commands_of

yaml = pytest.importorskip("yaml", reason="PyYAML comes with 'channel-bench[docs]'")
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
SHELL = {"tee"}
"""Programs of every Linux machine that the workflows use."""


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def commands(text):
    """Commands of a `run`; what xargs starts counts as a command of its own."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for command in commands_of(line):
            if command[0] == "xargs":
                assert command[1:4] == ["-0", "-a", "changed"], command
                command = [*command[4:], "changed.json"]
            found.append([word for word in command if word not in ("1", "2")])  # of 2>&1
    return found


RUNS = [
    pytest.param(command, id=f"{name}: {' '.join(command)[:50]}")
    for name, workflow in WORKFLOWS.items()
    for step in steps(workflow)
    if "run" in step
    for command in commands(step["run"])
]


def test_there_are_three_workflows():
    assert set(WORKFLOWS) == {"site", "submission", "tests"} and len(RUNS) > 12


@pytest.mark.parametrize("command", RUNS)
def test_every_command_of_a_workflow_exists_with_its_options(command):
    if command[0] not in SHELL:
        check_command(command)


def test_a_wrong_command_behind_xargs_is_found():
    (first, *_) = commands("xargs -0 -a changed channel-harness check-entrie --entries x 2>&1 | tee -a y")
    with pytest.raises(AssertionError, match="has no command 'check-entrie'"):
        check_command(first)


def test_the_pythons_are_those_of_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    declared = re.findall(r":: (3\.\d+)$", setup["metadata"]["classifiers"], re.M)
    assert WORKFLOWS["tests"]["jobs"]["test"]["strategy"]["matrix"]["python"] == declared
    assert declared[0] in setup["options"]["python_requires"] and len(declared) == 4


def test_the_test_command_is_that_of_the_readme():
    command = next(
        block.text.strip()
        for block in blocks_of(ROOT / "README.md")
        if block.language == "bash" and "pytest" in block.text
    )
    assert command in [step.get("run") for step in steps(WORKFLOWS["tests"])]


def test_the_lint_job_runs_what_decides_in_ci():
    run = {step["run"] for step in WORKFLOWS["tests"]["jobs"]["lint"]["steps"] if "run" in step}
    decides = (ROOT / ".ci" / "run").read_text()
    site = 'python -m pytest -n 0 -m slow tests/test_docs.py -k "site or reference"'
    for command in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", site):
        assert command in run and f".venv/bin/{command}" in decides


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_workflow_may_write_into_the_repository(name):
    workflow = WORKFLOWS[name]
    events = workflow[True]  # YAML reads "on" as true
    assert "pull_request_target" not in events and workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        more = job.get("permissions", {})
        assert more in ({}, {"pages": "write", "id-token": "write"}) and (not more or "pull_request" not in events)
    text = (FOLDER / f"{name}.yml").read_text()
    assert "secrets." not in text
    # Nothing that a pull request writes, such as its title, becomes part of a command.
    assert all("${{" not in step.get("run", "") for step in steps(workflow))


def test_actions_are_pinned_to_major_versions():
    used = [step["uses"] for workflow in WORKFLOWS.values() for step in steps(workflow) if "uses" in step]
    assert len(used) > 6 and all(re.fullmatch(r"actions/[\w-]+@v\d+", each) for each in used)


def test_a_submission_is_what_touches_the_leaderboard():
    assert WORKFLOWS["submission"][True] == {"pull_request": {"paths": ["data/leaderboard/**"]}}
    (line,) = [step["run"] for step in steps(WORKFLOWS["submission"]) if "check-entry" in step.get("run", "")]
    assert "$GITHUB_STEP_SUMMARY" in line
    (step,) = [step for step in steps(WORKFLOWS["submission"]) if step.get("run") == line]
    assert step["shell"] == "bash"  # with pipefail: tee must not hide that the check failed
    assert Path("data/leaderboard").as_posix() in line
