"""The files of examples/cluster: they parse, their commands exist, the images get what is installed."""

import configparser
import re
import subprocess

import pytest
from test_docs import ROOT, check_command, commands_of

FOLDER = ROOT / "examples" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))
DOCKER, APPTAINER = (FOLDER / "Dockerfile").read_text(), (FOLDER / "channel-bench.def").read_text()
OURS = {"channel-bench", "channel-harness", "srun", "docker", "apptainer", "ray"}


def commands_in(text):
    """Commands of our programs, of Slurm, of Ray and of containers, also those in the comment that shows the use."""
    lines = re.sub(r"^#   ", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    lines = [re.sub(r"^(trap|    exec) .*|\$\(.*?\)\)?", "X", line) for line in lines if line[:1] != "#"]
    return [command for line in lines for command in commands_of(line) if command[0].rpartition("/")[2] in OURS]


def section(name):
    return re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", APPTAINER, re.M | re.S)[1]


ALL = [
    pytest.param(command, id=f"{path.name}: {' '.join(command)[:50]}")
    for path in (*SCRIPTS, FOLDER / "Dockerfile", FOLDER / "channel-bench.def")
    for command in commands_in(path.read_text())
]


def test_there_are_commands_to_check():
    assert len(SCRIPTS) == 3 and len(ALL) >= 10


@pytest.mark.parametrize("command", ALL)
def test_every_command_exists_with_its_options(command):
    check_command(command)
    if next((word for word in command if word in OURS - {"srun"}), None) != "ray":
        return
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.scripts.scripts import cli

    _, name, *arguments = command[command.index("ray") :]
    options = {option for parameter in cli.commands[name].params for option in parameter.opts}
    assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= options


@pytest.mark.parametrize(
    "line", ["srun channel-bench build resnet --out runs --frob", "srun frob", "docker run x frob"]
)
def test_a_wrong_command_behind_srun_or_docker_is_found(line):
    with pytest.raises(Exception):  # noqa: B017 - typer's own, or an assertion
        check_command(commands_of(line)[0])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_bash_with_their_log_in_a_folder_that_they_name(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""
    text = path.read_text()
    directives = re.findall(r"^#SBATCH (.*)$", text, re.M)
    assert text.startswith("#!/bin/bash\n") and all(re.fullmatch(r"--[a-z-]+(=\S+)?", each) for each in directives)
    # Slurm reads directives up to the first command only.
    assert text.rindex("#SBATCH") < text.index("set -euo pipefail")
    is_array = any(each.startswith("--array=1-") for each in directives)
    assert f"--output=logs/%x-{'%A_%a' if is_array else '%j'}.out" in directives and "mkdir -p logs" in text
    assert is_array == ('--shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"' in text)


def test_the_shares_of_an_array_are_what_the_commands_read():
    from channel_bench.builder.plan import parse_shard

    environment = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}
    line = 'printf "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'
    text = subprocess.run(["/bin/bash", "-c", line], env=environment, capture_output=True, text=True).stdout
    assert parse_shard(text) == (3, 16)


def test_both_images_install_the_same_and_as_the_readme_says():
    (install,) = re.findall(r"^RUN (python3 -m venv .*)$", DOCKER, re.M)
    (packages,) = re.findall(r"^RUN (apt-get .*)$", DOCKER, re.M)
    assert install in section("post") and packages in section("post")
    shown = re.search(r"^(python3 -m venv .*? -e) '\.\[train\]'", (ROOT / "README.md").read_text(), re.M)[1]
    assert install.replace(" --no-cache-dir", "") == f"{shown} '.[train,cluster]'"
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert {"train", "cluster"} <= set(config["options.extras_require"])
    assert re.search(r"^FROM (.*)$", DOCKER, re.M)[1] == re.search(r"^From: (.*)$", APPTAINER, re.M)[1]
    (path,) = re.findall(r"^ENV PATH=(.*)$", DOCKER, re.M)
    assert section("environment").split() == ["export", f"PATH={path}"]


def test_both_images_get_every_file_that_is_installed():
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", DOCKER, re.M) for word in line.split()]
    pairs = [line.split() for line in section("files").strip().splitlines()]
    assert copied == [source for source, _ in pairs]
    assert all(target == f"/opt/channel-bench/{source}" for source, target in pairs)
    assert all((ROOT / source).exists() for source in copied)
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    metadata, options = config["metadata"], config["options"]
    needed = {metadata["long_description"].removeprefix("file: "), metadata["license_files"], "pyproject.toml"}
    needed |= {name.partition(".")[0] for name in options["packages"].split()}
    needed |= {line.partition(" = ")[2] for line in options["package_dir"].strip().splitlines()}
    assert needed | {"setup.cfg"} == set(copied)
