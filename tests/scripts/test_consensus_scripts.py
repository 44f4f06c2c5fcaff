"""What data/consensus holds follows from its own figures, and is of supernets alone."""

import json
import re

import numpy as np
import pytest
from conftest import SCRIPTS, load_script

import channel_bench as cb
from harness.judge.baselines import baseline_scores
from harness.method import SUPERNETS
from harness.stats.metrics import kendall

FOLDER = SCRIPTS.parent / "consensus"


def read(name):
    return json.loads((FOLDER / name).read_text())


def test_the_tables_are_those_of_the_figures():
    worth, ablation = load_script(SCRIPTS / "ranking_worth.py"), load_script(SCRIPTS / "consensus_ablation.py")
    assert worth.markdown(read("worth.json")["spaces"]) == (FOLDER / "worth.md").read_text()
    assert ablation.markdown(read("ablation.json")["spaces"]) == (FOLDER / "ablation.md").read_text()


def test_only_supernets_are_ablated():
    ablation = load_script(SCRIPTS / "consensus_ablation.py")
    for found in read("ablation.json")["spaces"]:
        assert set(ablation.supernets(cb.get_space(found["space"]))) == set(SUPERNETS)
        assert {name.partition("/")[0] for name in found["supernets"]} == set(SUPERNETS)
        assert all(len(row["values"]) in (3, 9, 27) for row in found["rows"].values())
        raised = np.array(found["rows"]["consensus"]["values"]) > np.array(found["rows"]["raw"]["values"])
        assert found["raised"] == raised.sum() == 27


def test_the_free_scores_of_the_ablation_are_the_baselines():
    for found in read("ablation.json")["spaces"]:
        space = cb.get_space(found["space"])
        truth = cb.load(space).accuracies()
        taus = {name: kendall(scores, truth) for name, scores in baseline_scores(space).items()}
        assert list(found["free"]) == list(taus) and found["free"] == pytest.approx(taus, abs=1e-9)


def test_a_mean_over_methods_takes_the_place_of_single_ones():
    worth = load_script(SCRIPTS / "ranking_worth.py")
    for space, rows in read("worth.json")["spaces"].items():
        shown = worth.chosen_rows(rows)
        single = [row["name"] for row in shown if row["kind"] in worth.LABELS]
        assert single == (["mean of all"] * 3 if "mini" in space else ["bcnet-released"] * 3)
        for kind in worth.LABELS:
            taus = [row["kendall"] for row in rows if row["kind"] == kind and row["name"] != "mean of all"]
            if len(taus) > 1:
                (mean,) = [row for row in shown if row["kind"] == kind]
                assert mean["kendall"] == pytest.approx(np.mean(taus))
                assert (mean["low"], mean["high"]) == pytest.approx(worth.t_interval(taus))


def test_the_page_says_how_many_supernets_each_form_loses_by():
    text = (SCRIPTS.parents[1] / "docs" / "explanation" / "consensus.md").read_text()
    rows = {found["space"]: found["rows"] for found in read("ablation.json")["spaces"]}

    def ahead(space, form):
        better = np.array(rows[space]["consensus"]["values"]) > np.array(rows[space][form]["values"])
        return f"{better.sum()} of {len(better)}"

    words = r"of root slopes for all 27 on `mobilenet-mini`, (\d+ of 27) on `resnet-mini` and (\d+ of 27) on"
    (shown,) = re.findall(words, text)
    assert (ahead("resnet-mini", "root-log-rising"), ahead("mobilenet-mini-placed", "root-log-rising")) == shown
    assert ahead("mobilenet-mini", "root-log-rising") == "27 of 27"
    assert all(ahead(space, "concave") == "27 of 27" for space in rows)
