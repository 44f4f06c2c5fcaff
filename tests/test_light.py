"""A light installation: reading, asking, comparing and judging without any package of an extra."""

import configparser
import json
import subprocess
import sys
from pathlib import Path

from channel_bench.errors import EXTRAS, MissingPackageError, missing_package
from channel_bench.space import get_space

CORE = {"numpy", "scipy", "pandas", "pyarrow", "h5py", "typer", "rich", "platformdirs"}
BLOCK = f"""
import sys
class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {sorted(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent)
"""
DRIVER = (
    BLOCK
    + """
import contextlib, importlib, io, json
from channel_bench.support.terminal import run_app
ended = []
for program, arguments in json.loads(sys.stdin.read()):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_app(importlib.import_module(program + ".cli").app, program, arguments)
        except SystemExit as exit:
            code = exit.code
    ended.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(ended))
"""
)
"""Many commands in one process, because each import of NumPy and Typer takes a second."""
NEEDS = "(No module named 'torch'): pip install 'channel-bench[train]'"
WORKS = {
    ("channel_bench", "query", "resnet-mini", "4344424", "--json"): '"arch": "4344424"',
    ("channel_bench", "top", "resnet-mini", "-k", "2", "--max-flops", "0.5x"): "rank among 16,384",
    ("channel_bench", "explore", "resnet-mini", "-o", "page.html"): "wrote page.html",
    ("channel_bench", "verify", "resnet-mini"): "intact",
    ("harness", "methods"): "autoslim",
    ("harness", "score", "s.csv", "--space", "resnet-mini"): "of ceiling",
    (
        "harness",
        "report",
        "s.csv",
        "--space",
        "resnet-mini",
        *"-o r --no-figures --replicates 0 --draws 0".split(),
    ): "wrote",
    ("harness", "experiment", "list"): "trajectory",
}
REFUSED = {
    ("channel_bench", "train", "resnet-mini", "1111111"): NEEDS,
    ("channel_bench", "build", "resnet-mini", "--archs", "1", "--out", "made"): NEEDS,
    ("channel_bench", "latency", "resnet-mini", "-o", "made.json"): NEEDS,
    ("harness", "rank", "uniform", "--space", "resnet-mini", "-o", "made"): NEEDS,
    ("harness", "check", "uniform"): NEEDS,
    ("harness", "demo"): NEEDS,
    ("harness", "search", "uniform", "--space", "resnet-mini", "--searcher", "greedy", "--max-flops", "1x"): NEEDS,
    ("harness", "report", "log-paths", "--space", "resnet-mini", "-o", "made"): "pip install 'channel-bench[report]'",
}


def run_light(commands, folder):
    """Exit code, standard output and error of each command where nothing but the core can be imported."""
    asked = json.dumps([(program, arguments) for program, *arguments in commands])
    result = subprocess.run(
        [sys.executable, "-c", DRIVER], input=asked, capture_output=True, text=True, cwd=folder, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return dict(zip(commands, json.loads(result.stdout), strict=True))


def test_the_core_is_what_reading_and_judging_need():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[1] / "setup.cfg")
    required = {line.partition(">")[0] for line in config["options"]["install_requires"].split("\n") if line}
    assert required == CORE | {"tomli"}
    extras = config["options.extras_require"]
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "syne_tune": "syne-tune"}
    for module, extra in EXTRAS.items():
        assert any(line.startswith(names.get(module, module) + ">") for line in extras[extra].split()), module


def test_what_needs_no_extra_works_without(tmp_path):
    space = get_space("resnet-mini")
    lines = [f"{space.text(index)},{space.flops()[index]}" for index in range(0, 16384, 8)]
    (tmp_path / "s.csv").write_text("\n".join(["arch,score", *lines]) + "\n")
    for command, (code, out, err) in run_light(WORKS, tmp_path).items():
        assert code == 0 and WORKS[command] in out + err, (command, out[-500:], err)


def test_what_needs_an_extra_names_it_in_one_line_and_writes_nothing(tmp_path):
    for command, (code, _, err) in run_light(REFUSED, tmp_path).items():
        assert code == 2 and REFUSED[command] in err and err.count("\n") == 1, (command, err)
    assert list(tmp_path.iterdir()) == []


def test_the_programs_say_it_too(tmp_path):
    code = BLOCK + (
        "from channel_bench.errors import MissingPackageError\n"
        "import channel_bench as cb, importlib\n"
        "assert cb.load('resnet-mini').accuracy('4344424') > 90\n"
        "for name in ('channel_bench.training.run', 'channel_bench.training.datasets'):\n"
        "    try: importlib.import_module(name); raise SystemExit(name)\n"
        "    except MissingPackageError as error: print(error)\n"
        "try: from harness.supernet import train_supernet; raise SystemExit('supernet')\n"
        "except MissingPackageError as error: print(error)\n"
        "from harness.methods import get_method\n"
        "try: get_method('uniform'); raise SystemExit('method')\n"
        "except MissingPackageError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(NEEDS) == 4


def test_a_broken_installation_is_not_called_a_missing_one():
    code = "import sys; sys.modules['typing_extensions'] = None\nimport channel_bench.training"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode != 0 and "pip install" not in result.stderr
    assert str(missing_package("a figure", "matplotlib", "not installed")) == (
        "a figure needs matplotlib (not installed): pip install 'channel-bench[report]'"
    )
    assert issubclass(MissingPackageError, ImportError)
