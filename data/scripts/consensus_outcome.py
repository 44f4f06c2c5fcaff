"""What comes out of the test of the consensus: gains in each space, tests over spaces, choices made elsewhere.

    >>> results, judged = evaluate(read_preregistration())
    >>> one_sided([0.08, 0.03, -0.01])["p"]

A part of consensus_test.py, which says how it is run.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import consensus_registered as registered
import numpy as np
import numpy.typing as npt
from consensus_registered import FOLDER, ROOT, changed_code

import channel_bench as cb
from channel_bench.space import FloatArray, Space
from harness.judge.baselines import baseline_scores
from harness.scores import read_scores, read_seeds
from harness.stats.additive import fit_effects
from harness.stats.concordance import Ordered, Rankings
from harness.stats.consensus import fit_consensus
from harness.stats.metrics import kendall
from harness.stats.noise import ceilings, reliability
from harness.stats.student import half_width
from harness.stats.theories import SETS, theories

LEVEL = 0.95
NUM_REPLICATES = 1000
BETAS = (5.0, 10.0, 20.0, 40.0, 1000.0)
RELEASED = {"mobilenet": "bin20_min1_bcnet_2.json", "resnet": "bin20_min1_bcnet_2_resnet.json"}
"""Names of the authors' files, json_results of the public repository xiusu/BCNetV2; they have no licence."""
EXPLORATORY_FORMS = ("log", "log-rising", "root-log-rising")


# -- statistics -------------------------------------------------------------------------------------------------------


def interval(values: npt.ArrayLike) -> list[float] | None:
    """Two-sided 95% interval of a mean by Student's t; None where there are fewer than two values."""
    found = np.asarray(values, float)
    if len(found) < 2:
        return None
    mean, half = float(found.mean()), float(half_width(found, LEVEL))
    return [mean - half, mean + half]


def one_sided(gains: npt.ArrayLike) -> dict[str, Any]:
    """Test of mean gain <= 0 over spaces, one-sided by Student's t, with the exact sign test beside it.

    Args:
        gains: Mean gain of each space, (num_spaces,).
    """
    from scipy.stats import binomtest, ttest_1samp

    found = np.asarray(gains, float)
    positive, enough = int((found > 0).sum()), len(found) >= 2
    return {
        "num_spaces": len(found),
        "num_positive": positive,
        "mean": float(found.mean()) if len(found) else None,
        "interval": interval(found),
        "p": float(ttest_1samp(found, 0, alternative="greater").pvalue) if enough else None,
        "sign_p": float(binomtest(positive, len(found), alternative="greater").pvalue) if len(found) else None,
    }


def holm(p_values: list[float]) -> list[float]:
    """P values adjusted for their number by Holm (1979): they may be compared with the level of the family."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted.tolist()


# -- evaluating -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A space with its truth, and Kendall of every ranking on the architectures that have one."""

    space: Space
    truth: FloatArray
    """float64 (16384,), NaN where not trained."""
    free: dict[str, FloatArray]
    """Scores of rankings that no supernet has a part in, float64 (16384,) each."""
    supernets: dict[str, dict[str, FloatArray]]
    """By METHOD.seedN: scores of "raw", "consensus", "concave" and exploratory forms, float64 (16384,) each."""

    def tau(self, scores: FloatArray) -> float:
        """Kendall with the truth."""
        there = np.isfinite(self.truth)
        return kendall(scores[there], self.truth[there])

    def other(self, against: str, supernet: str) -> FloatArray:
        """The scores that a hypothesis compares the consensus of a supernet with."""
        return self.free[against] if against in self.free else self.supernets[supernet][against]

    def gains(self, against: str) -> list[float]:
        """Kendall of the consensus minus that of another ranking, for each supernet."""
        return [
            self.tau(own["consensus"]) - self.tau(self.other(against, name)) for name, own in self.supernets.items()
        ]

    def resampled(self, against: str, seed: int) -> list[float]:
        """Central 95% of the mean gain over bootstrap samples of architectures."""
        there = np.isfinite(self.truth)
        columns = [own["consensus"][there] for own in self.supernets.values()]
        columns += [self.other(against, name)[there] for name in self.supernets]
        rankings, label = Rankings(columns), Ordered(self.truth[there])
        rng, num = np.random.default_rng(seed), int(there.sum())
        means = []
        for _ in range(NUM_REPLICATES):
            copies = np.bincount(rng.integers(num, size=num), minlength=num)
            taus = np.array(rankings.kendall(label, copies))
            means.append(taus[: len(taus) // 2].mean() - taus[len(taus) // 2 :].mean())
        return np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()


def judge(space: Space, truth: FloatArray, raw: dict[str, FloatArray], beta: float) -> Judged:
    """Rank a space by everything that is compared.

    Args:
        space: The space.
        truth: float64 (16384,), NaN where not trained.
        raw: Raw scores by METHOD.seedN, float64 (16384,) each.
        beta: Sharpness of the consensus.
    """
    archs = space.archs()
    free = {
        "log-paths": baseline_scores(space)["log-paths"],
        "mean-of-theories": theories(space).scores.mean(0).round(8),
    }
    supernets = {}
    for name, scores in raw.items():
        forms = {
            form: fit_effects(archs, scores, form, space).predict(archs) for form in ("concave", *EXPLORATORY_FORMS)
        }
        consensus = fit_consensus(archs, scores, space, beta=beta)
        supernets[name] = {"raw": scores, "consensus": consensus.scores, **forms}
    return Judged(space, truth, free, supernets)


def evaluate(facts: dict[str, Any]) -> tuple[dict[str, Any], list[Judged]]:
    """All that was registered to be said of the spaces that are finished, and which ones are not; and those spaces."""
    supernets = facts["supernets"]
    judged: dict[str, Judged] = {}
    not_finished = []
    for entry in facts["space"]:
        space = cb.load_space(FOLDER / entry["file"])
        files = [registered.scores_of(space, method) for method in supernets["primary"]]
        if not all(path.exists() for path in (registered.table_of(space), *files)):
            not_finished.append(space.name)
            continue
        files += [path for method in supernets["secondary"] if (path := registered.scores_of(space, method)).exists()]
        raw = {
            f"{seed.method}.seed{seed.facts['seed']}": seed.values for path in files for seed in read_seeds(path, space)
        }
        truth = cb.load(space, registered.table_of(space)).accuracies()
        judged[space.name] = judge(space, truth, raw, facts["procedure"]["beta"])
    results = {
        "preregistration_sha256": registered.PREREGISTRATION_SHA256,
        "amendment_sha256": registered.AMENDMENT_SHA256,
        "primary_methods": supernets["primary"],
        "changed_code": changed_code(facts),
        "not_finished": not_finished,
        "spaces": {name: described(space, facts) for name, space in judged.items()},
        "primary": tests(facts, [among(space, supernets["primary"]) for space in judged.values()]),
        "secondary": {
            method: tests(facts, [chosen for space in judged.values() if (chosen := among(space, [method])).supernets])
            for method in supernets["secondary"]
        },
    }
    return results, list(judged.values())


def among(judged: Judged, methods: list[str]) -> Judged:
    """The same space with the supernets of some methods."""
    chosen = {name: own for name, own in judged.supernets.items() if name.split(".")[0] in methods}
    return Judged(judged.space, judged.truth, judged.free, chosen)


def described(judged: Judged, facts: dict[str, Any]) -> dict[str, Any]:
    """One space: its truth, Kendall of every ranking, and the gains of the primary supernets with intervals."""
    table = cb.load(judged.space, registered.table_of(judged.space))
    cells = table.cells()
    noise = reliability(cells[np.isfinite(cells).any(1)])
    there = np.isfinite(judged.truth)
    primary = among(judged, facts["supernets"]["primary"])
    gains = {}
    for hypothesis in facts["hypothesis"]:
        found = primary.gains(hypothesis["against"])
        gains[hypothesis["id"]] = {
            "mean": float(np.mean(found)),
            "interval_supernets": interval(found),
            "interval_archs": primary.resampled(hypothesis["against"], facts["truth"]["seed"]),
        }
    return {
        "num_archs": int(there.sum()),
        "num_diverged": int(np.isnan(cells[there]).sum()),
        "accuracy": [float(judged.truth[there].min()), float(judged.truth[there].max())],
        "reliability": float(noise.of_mean),
        "kendall_ceiling": float(ceilings(noise.of_mean).kendall),
        "num_theories": len(theories(judged.space).names),
        "free": {name: judged.tau(scores) for name, scores in judged.free.items()},
        "supernets": {
            name: {form: judged.tau(scores) for form, scores in own.items()} for name, own in judged.supernets.items()
        },
        "gains": gains,
    }


def tests(facts: dict[str, Any], judged: list[Judged]) -> list[dict[str, Any]]:
    """The hypotheses over spaces, with p values adjusted for their number."""
    found = []
    for hypothesis in facts["hypothesis"]:
        gains = [float(np.mean(space.gains(hypothesis["against"]))) for space in judged]
        found.append({"id": hypothesis["id"], "against": hypothesis["against"], **one_sided(gains)})
    if all(each["p"] is not None for each in found):
        for each, adjusted in zip(found, holm([each["p"] for each in found]), strict=True):
            each |= {"p_holm": adjusted, "supported": adjusted < facts["analysis"]["level"]}
    return found


# -- exploratory ------------------------------------------------------------------------------------------------------


def known_spaces(released: Path | None) -> list[Judged]:
    """The spaces whose truths were known before, with entries of the leaderboard or scores that others released.

    Args:
        released: Folder of the authors' scores of the full spaces; these are left out without it.
    """
    found = []
    for name in ("resnet", "mobilenet", "resnet-mini", "mobilenet-mini"):
        space = cb.get_space(name)
        raw = {}
        if name in RELEASED and released is not None:
            part = read_scores(released / RELEASED[name], space)  # one architecture has no score
            raw["bcnet-released.seed0"] = np.full(len(space.texts()), np.nan)
            raw["bcnet-released.seed0"][part.indices] = part.values
        for method in ("uniform", "autoslim", "bcnet"):
            path = ROOT / "data" / "leaderboard" / f"{method}.{name}.parquet"
            if path.exists():
                raw |= {f"{method}.seed{each.facts['seed']}": each.values for each in read_seeds(path, space)}
        if raw:
            own = {seed: {"raw": scores} for seed, scores in raw.items()}
            found.append(Judged(space, cb.load(space).accuracies(), {}, own))
    return found


def leave_one_out(judged: list[Judged]) -> dict[str, Any]:
    """Choose beta and the set to do without on all spaces but one, by mean Kendall; report the choice on that one."""
    choices = list(itertools.product((None, *SETS), BETAS))
    taus = np.array([taus_of(space, choices) for space in judged])
    registered = choices.index((None, 20.0))
    rows = []
    for number, space in enumerate(judged):
        best = int(np.argmax(np.delete(taus, number, 0).mean(0)))
        rows.append(
            {
                "space": space.space.name,
                "num_supernets": len(space.supernets),
                "chosen_elsewhere": {"leave_out": choices[best][0], "beta": choices[best][1]},
                "kendall": float(taus[number, best]),
                "kendall_registered": float(taus[number, registered]),
                "kendall_best_here": float(taus[number].max()),
                "mean_of_theories": space.tau(theories(space.space).scores.mean(0).round(8)),
            }
        )
    return {
        "num_choices": len(choices),
        "num_comparisons": taus.size,
        "choices": [{"leave_out": without, "beta": beta} for without, beta in choices],
        "kendall": {space.space.name: row for space, row in zip(judged, taus.round(5).tolist(), strict=True)},
        "left_out": rows,
    }


def taus_of(judged: Judged, choices: list[tuple[str | None, float]]) -> list[float]:
    """Mean Kendall over supernets of consensuses with other settings, one for each choice."""
    archs, found = judged.space.archs(), np.zeros((len(judged.supernets), len(choices)))
    for without in dict.fromkeys(without for without, _ in choices):
        leave_out = () if without is None else (without,)
        known = theories(judged.space, leave_out).scores
        for row, own in enumerate(judged.supernets.values()):
            # Agreement does not depend on beta, so one fit serves all.
            there = np.isfinite(own["raw"])
            rho = fit_consensus(archs[there], own["raw"][there], judged.space, leave_out=leave_out).rho
            for column, (other, beta) in enumerate(choices):
                if other == without:
                    weights = np.exp(beta * (rho - rho.max()))
                    found[row, column] = judged.tau((weights / weights.sum() @ known).round(8))
    return found.mean(0).tolist()
