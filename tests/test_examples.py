"""The examples do what they say: the package installs and passes the check, the file of scores is read."""

import csv
import importlib.util
import json
import math
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Isolated
from torch import nn
from torch.func import functional_call
from torch.nn import functional

import channel_bench as cb
from channel_bench.training.models import build_model
from harness import method as method_module
from harness.check.checker import small_task
from harness.judge.baselines import num_paths

HARNESS = "channel-harness"
EXAMPLES = Path(__file__).parents[1] / "examples"
COUNT_PATHS = EXAMPLES / "scores_only" / "count_paths.py"


# -- a package --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder into which pip has installed the package; without a network, so with the setuptools that is there."""
    if importlib.util.find_spec("pip") is None or importlib.util.find_spec("setuptools") is None:
        pytest.skip("installing without a network needs pip and setuptools in this environment")
    folder = tmp_path_factory.mktemp("snip")
    shutil.copytree(EXAMPLES / "snip_package", folder / "source")  # pip builds in the source folder
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", folder / "site", folder / "source"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return folder / "site"


@pytest.fixture
def snip(site, monkeypatch):
    """The package's module, as if installed in this environment."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(method_module.METHODS, "_known", Isolated(method_module.METHODS))
    import channel_bench_snip

    assert Path(channel_bench_snip.__file__).parent == site
    yield channel_bench_snip
    del sys.modules["channel_bench_snip"]


@pytest.mark.xdist_group("snip")  # one installation serves all
def test_an_installed_package_is_listed_and_fulfils_the_contract(snip, run_cli):
    listed = {row["name"]: row for row in json.loads(run_cli(HARNESS, "methods", "--json")[1])}["my-snip"]
    assert listed["options"] == {"num_images": 64} and "Lee et al., 2019" in listed["paper"]
    code, output, _ = run_cli(HARNESS, "check", "my-snip", "--option", "num_images=16", "--device", "cpu", "--json")
    assert code == 0, output
    outcomes = {finding["check"]: finding["outcome"] for finding in json.loads(output)["findings"]}
    assert outcomes["company"] == outcomes["seed"] == "passed"
    code, _, errors = run_cli(HARNESS, "check", "my-snip", "--option", "num_images=1")
    assert code == 2 and "num_images is 1: allowed are 2 and above" in errors


@pytest.mark.xdist_group("snip")
@pytest.mark.parametrize("space", ["resnet-mini", "mobilenet-mini"])
def test_connection_sensitivity_is_the_gradient_of_a_mask_of_ones(snip, space):
    """Lee et al. define it as |dL(c * w)/dc| at c = 1, which takes another graph than w * dL/dw."""
    task = small_task(space)
    evaluator = snip.Snip(num_images=16).fit(task)
    arch = np.array([[2, 1, 3, 4, 1, 2, 3]], np.int8)
    model = build_model(task.space, arch[0], task.generator(snip.WEIGHTS, task.space.index("2134123")))
    weights = {
        f"{name}.weight": module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    masks = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    masked = {name: masks[name] * weight for name, weight in weights.items()}
    logits = functional_call(model, masked, evaluator.images)
    gradients = torch.autograd.grad(functional.cross_entropy(logits, evaluator.labels), list(masks.values()))
    expected = sum(gradient.double().abs().sum().item() for gradient in gradients)
    assert len(evaluator.labels) == 16
    assert evaluator.score(arch) == pytest.approx([expected], rel=1e-4)


# -- a file of scores -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    """What the script defines."""
    return runpy.run_path(str(COUNT_PATHS))


def test_the_script_knows_the_spaces(script):
    spaces = {name: cb.get_space(name) for name in cb.list_spaces()}
    facts = {name: (space.max_channels, space.input_shape[0], space.family) for name, space in spaces.items()}
    assert script["SPACES"] == facts


@pytest.mark.parametrize("space", ["resnet-mini", "mobilenet-mini"])
@pytest.mark.parametrize("arch", ["1111111", "4321234", "2143412"])
def test_paths_are_what_a_network_of_ones_gives(script, space, arch):
    space = cb.get_space(space)
    net = build_model(space, arch, torch.Generator()).double()
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, nn.Identity())
        elif isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"  # an image without a border
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    logits = net(torch.ones(1, *space.input_shape, dtype=torch.float64))
    count = script["num_paths"](space.family, space.channels(arch), space.input_shape[0])
    assert logits[0].tolist() == pytest.approx([float(count)] * 10, rel=1e-12)
    assert num_paths(space)[space.index(arch)] == count  # the baseline, from the layers as data


def written(space, folder):
    target = folder / "paths.csv"
    finished = subprocess.run([sys.executable, COUNT_PATHS, space, target], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return target


def stated(space):
    """Kendall of a space in the README of the examples: of the paths, and of FLOPs."""
    row = re.search(rf"^\| `{space}` \| (\.\d+) \| (\.\d+) \|$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert row is not None
    return [float(value) for value in row.groups()]


def kendalls(run_cli, file, space):
    """Kendall of a file of scores by the command line: of the scores, and of FLOPs; both over the whole space."""
    code, output, _ = run_cli(HARNESS, "score", file, "--space", space, "--draws", "0", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(output)["rows"]}
    assert rows["paths"]["n"] == 16384
    return [round(rows[name]["kendall"], 3) for name in ("paths", "flops")]


@pytest.mark.parametrize("space", ["resnet-mini", "mobilenet-mini"])
def test_a_file_of_scores_is_read_and_gives_what_the_readme_states(space, tmp_path, run_cli):
    target = written(space, tmp_path)
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert len(rows) == 16384 and rows[0]["arch"] == "1111111"
    narrowest = {"resnet-mini": 9 * 325**2 * 81 * 8 * 1297**2 * 4, "mobilenet-mini": 9 * 109**2 * 9 * 12 * 325 * 24}
    assert math.isclose(float(rows[0]["score"]), math.log(narrowest[space]))
    assert kendalls(run_cli, target, space) == stated(space)


@pytest.mark.parametrize("space", ["resnet", "mobilenet"])
def test_the_published_figures_of_the_readme(space, tmp_path, published, run_cli):
    assert kendalls(run_cli, written(space, tmp_path), space) == stated(space)


def test_the_script_says_how_it_is_used():
    finished = subprocess.run([sys.executable, COUNT_PATHS, "imagenet"], capture_output=True, text=True)
    assert finished.returncode == 1 and finished.stderr.startswith("usage: count_paths.py resnet|mobilenet|resnet-mini")


def test_the_readmes_name_what_is_there():
    text = (EXAMPLES / "README.md").read_text()
    for path in ("snip_package", "scores_only/count_paths.py", "snip_package/src/channel_bench_snip.py"):
        assert path in text and (EXAMPLES / path).exists()
