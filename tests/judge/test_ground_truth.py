"""What is known of the published tables, row by row, as the command lines say it, to every decimal that is known.

The known figures were computed from the published files by other code. Where one of ours differs from them, the row
says why.
"""

import contextlib
import io
import json
import math

import pytest
from conftest import start_cli

NUM_DRAWS = 20


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(f"published-{name}"))  # every command runs once
        for name in ("mobilenet", "resnet")
    ],
)
def space(request, published):
    return request.param


def answer(name, *arguments):
    """What a command prints as JSON."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert start_cli(name, *arguments, "--json") == 0
    return json.loads(output.getvalue())


@pytest.fixture(scope="module")
def top(space):
    return answer("channel-bench", "top", space, "-k", 100)["results"]


@pytest.fixture(scope="module")
def noise(space):
    return answer("channel-harness", "noise", "--space", space)


@pytest.fixture(scope="module")
def baselines(space):
    """With fits on logarithms of widths, the default."""
    return answer("channel-harness", "baselines", "--space", space, "--equal-flops", "--additive", "--draws", NUM_DRAWS)


@pytest.fixture(scope="module")
def onehot_curve(space):
    """Fits on 22 one-hot terms."""
    arguments = ("--space", space, "--additive", "--form", "onehot", "--draws", 2)
    return answer("channel-harness", "baselines", *arguments)["curve"]


def row_of(comparison, name):
    return next(row for row in comparison["rows"] if row["name"] == name)


def rounded(values, known):
    """Values as text, each with as many decimals as its known figure has."""
    texts = [f"{value:.{len(word.partition('.')[2])}f}" for value, word in zip(values, known.split(), strict=True)]
    return " ".join(text.removeprefix("0") for text in texts)


def test_best_worst_widest_narrowest_and_the_range(space, top):
    archs, means, extent = {
        "mobilenet": ("4444342 1111113 4444444 1111111", "91.887 89.167 91.663 89.287", "89.17 91.89"),
        "resnet": ("4344424 1111112 4444444 1111111", "93.893 91.573 93.617 91.700", "91.57 93.89"),
    }[space]
    found = answer("channel-bench", "query", space, *archs.split())["results"]
    assert rounded([each["mean"] for each in found], means) == means
    best, worst = found[:2]
    assert rounded([worst["mean"], best["mean"]], extent) == extent
    # Equal means share the better rank, so that these two are the only ones of theirs.
    assert [best["rank"], worst["rank"], worst["num_ranked"]] == [1, 16384, 16384]
    assert [each["arch"] for each in top if each["rank"] == 1] == [best["arch"]]


def test_spread_of_means_and_variance_of_runs(space, noise):
    known = {"mobilenet": ".404 .03343", "resnet": ".318 .02648"}[space]
    assert rounded([noise["reliability"]["mean_std"], noise["reliability"]["run_std"] ** 2], known) == known


def test_runs_with_each_other(space, noise):
    known = {"mobilenet": ".6197 .6121 .6118", "resnet": ".5636 .5679 .5612"}[space]
    assert rounded([noise["run_to_run"][i][j] for i, j in ((0, 1), (0, 2), (1, 2))], known) == known


def test_each_run_with_the_mean_of_the_others(space, noise):
    known = {"mobilenet": ".662 .662 .656", "resnet": ".616 .611 .615"}[space]
    assert rounded(noise["run_to_others"], known) == known


def test_reliability_and_the_ceilings_that_follow_from_it(space, noise, baselines):
    known = {"mobilenet": ".9317 .9652 .8316", "resnet": ".9125 .9552 .8088"}[space]
    ceiling = noise["ceiling_of_mean"]
    assert rounded([noise["reliability"]["of_mean"], ceiling["pearson"], ceiling["kendall"]], known) == known
    assert baselines["ceiling"] == ceiling
    # The simulation repeats what can be checked, and so may be believed where it differs a little from normal theory.
    simulation = noise["simulation"]
    observed = sum(noise["run_to_run"][i][j] for i, j in ((0, 1), (0, 2), (1, 2))) / 3
    assert simulation["run_to_run"] == pytest.approx(observed, abs=0.002)
    assert simulation["of_mean"] == pytest.approx(ceiling, abs=0.005)


@pytest.mark.parametrize(
    ("name", "mobilenet", "resnet"),
    [
        ("flops", ".7399 .7416 .5458", ".8360 .8565 .6730"),
        ("params", ".6037 .6034 .4261", ".6688 .6913 .5089"),
        # Known as .6518 and .6144, and .8353, from logarithms summed one by one: rounding errors break exact ties, and
        # make 70 scores out of 64 (test_metrics.py).
        ("sum-log-width", ".8430 .8352 .6520", ".8110 .7998 .6146"),
    ],
)
def test_free_baselines(space, baselines, name, mobilenet, resnet):
    known = {"mobilenet": mobilenet, "resnet": resnet}[space]
    row = row_of(baselines, name)
    assert rounded([row["pearson"], row["spearman"], row["kendall"]], known) == known and row["n"] == 16384


def test_the_additive_fit_to_all(space, onehot_curve):
    known = {"mobilenet": ".828", "resnet": ".805"}[space]
    assert rounded([onehot_curve["fitted_on_all"]], known) == known


def test_thirty_two_trained_architectures_beat_every_published_supernet(space, baselines):
    known, best_of_paper = {"mobilenet": (0.798, 0.652), "resnet": (0.773, 0.684)}[space]
    point = next(point for point in baselines["curve"]["points"] if point["n"] == 32)
    # The known figure is the mean of 10 other draws.
    assert abs(point["mean"] - known) < 3 * point["std"] * math.sqrt(1 / 10 + 1 / NUM_DRAWS)
    assert point["low"] > best_of_paper
    assert 8 <= row_of(baselines, "sum-log-width")["worth"]["n"] <= 14
    assert row_of(baselines, "min-width")["worth"]["n"] is None
    assert round(baselines["curve"]["fitted_on_all"], 3) == {"mobilenet": 0.820, "resnet": 0.801}[space]


def test_flops_within_deciles_of_flops(space, baselines):
    known = {
        "mobilenet": ".32 .07 .08 .06 .03 .02 .06 .07 .09 .29",
        "resnet": ".50 .22 .13 .10 .05 .07 .04 .08 .11 .27",
    }[space]
    assert rounded(row_of(baselines, "flops")["equal_flops"]["kendall"], known) == known


def test_ties(space, noise):
    # In per cent.
    known = {"mobilenet": "98.3", "resnet": "98.7"}[space]
    assert rounded([100 * noise["tied_share"]], known) == known


def test_how_far_the_first_hundred_are_apart(space, noise, top):
    known = {"mobilenet": ".25", "resnet": ".19"}[space]
    assert rounded([noise["top_100_width"]], known) == known
    assert top[0]["mean"] - top[99]["mean"] == pytest.approx(
        noise["top_100_width"], abs=1e-4
    )  # ranks are of means to 0.0001
