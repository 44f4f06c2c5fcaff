"""The preregistered test of the consensus of theories, on spaces that nobody had trained before it was written down.

    python data/scripts/consensus_test.py --work FOLDER            # train what is missing, then evaluate; resumable
    python data/scripts/consensus_test.py                          # evaluate what is in data/preregistered

`data/preregistered/consensus.toml` says what is tested, how, and what would count as failure. Its SHA-256 is the
constant below: this program does nothing with another text, so neither can change after a truth was seen without the
history showing it. The same holds for `amendment.toml`, which replaces two spaces that could not be trained. Spaces
that are not finished are named as such, never left out for their result.

Truths go to data/preregistered/tables/, raw scores of supernets to data/preregistered/scores/, the outcome to
consensus.results.json, .md and .png and consensus.exploratory.md beside the preregistration.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError
from channel_bench.space import FloatArray, Space
from channel_bench.support.durable import write_atomic
from harness.judge.baselines import baseline_scores
from harness.report.figures import COLOURS, GREY, draw_named
from harness.scores import read_scores, read_seeds, space_facts
from harness.stats.additive import fit_effects
from harness.stats.concordance import Ordered, Rankings
from harness.stats.consensus import fit_consensus
from harness.stats.metrics import kendall
from harness.stats.noise import ceilings, reliability
from harness.stats.theories import SETS, theories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREREGISTRATION_SHA256 = "4ef34cbf5d396b08d51ccc197b829dbbed664ee250e7e78b088512db1d4231e6"
AMENDMENT_SHA256 = "b14352249b9480e69f9673315ab38a3771ae187c050ce3623b2915771a038a56"
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "preregistered"
PREREGISTRATION = FOLDER / "consensus.toml"
AMENDMENT = FOLDER / "amendment.toml"
"""What had to be changed before any outcome was computed, and why."""
RESULTS = FOLDER / "consensus.results.json"
EXPLORATORY = FOLDER / "consensus.exploratory.md"
LEVEL = 0.95
NUM_REPLICATES = 1000
BETAS = (5.0, 10.0, 20.0, 40.0, 1000.0)
RELEASED = {"mobilenet": "bin20_min1_bcnet_2.json", "resnet": "bin20_min1_bcnet_2_resnet.json"}
"""Names of the authors' files, json_results of the public repository xiusu/BCNetV2; they have no licence."""
EXPLORATORY_FORMS = ("log", "log-rising", "root-log-rising")


# -- the preregistration ----------------------------------------------------------------------------------------------


def read_preregistration(path: Path = PREREGISTRATION, amendment: Path = AMENDMENT) -> dict[str, Any]:
    """The preregistration as amended, if both are the texts that this program was written for.

    Raises:
        ArgumentError: The bytes of one have another SHA-256.
    """
    facts = read_locked(path, PREREGISTRATION_SHA256)
    replaced = {entry["file"]: entry for entry in read_locked(amendment, AMENDMENT_SHA256)["replace"]}
    for entry in facts["space"]:
        if entry["file"] in replaced:
            other = replaced[entry["file"]]
            entry |= {"file": other["by"], "placed": other["placed"]}
    return facts


def read_locked(path: Path, sha256: str) -> dict[str, Any]:
    """A TOML file whose bytes are known.

    Raises:
        ArgumentError: They have another SHA-256.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ArgumentError(
            f"{path.name} has SHA-256 {found}, the one that was registered has {sha256}: a preregistration is not"
            " edited; take it from the commit that docs/explanation/consensus-test.md names"
        )
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    facts: dict[str, Any] = reader.loads(content.decode())
    return facts


def changed_code(facts: dict[str, Any]) -> list[str]:
    """Files of the procedure that are not as they were registered."""
    return [
        name
        for name, sha256 in facts["procedure"]["sha256"].items()
        if hashlib.sha256((ROOT / name).read_bytes()).hexdigest() != sha256
    ]


def archs_of(space: Space, facts: dict[str, Any], number: int) -> list[str]:
    """The architectures whose truth is built: drawn by `Space.sample` with the registered seed and the space's number.

    Args:
        space: The space.
        facts: The preregistration.
        number: Position of the space in it, from 0.
    """
    truth = facts["truth"]
    rng = np.random.default_rng([truth["seed"], number])
    return [space.text(arch) for arch in space.sample(truth["num_archs"], rng).tolist()]


# -- computing --------------------------------------------------------------------------------------------------------


def compute(facts: dict[str, Any], work: Path, workers: int) -> None:
    """Build all truths and train all supernets, the primary ones of every space first; what is there is not redone."""
    supernets = facts["supernets"]
    for part, methods in enumerate((supernets["primary"], supernets["secondary"])):
        for number, entry in enumerate(facts["space"]):
            space, data = cb.load_space(FOLDER / entry["file"]), images_of(entry, work)
            if part == 0:
                build(space, entry, archs_of(space, facts, number), facts["truth"]["num_runs"], data, work, workers)
            for method in methods:
                train(space, entry, method, supernets["num_seeds"], data, work, workers)


def images_of(entry: dict[str, Any], work: Path) -> Path | None:
    """The file of a space's images, None where they are the embedded digits.

    Raises:
        ArgumentError: The images are not those that were registered.
    """
    if "placed" not in entry:
        return None
    from pilot import placed

    made = placed(entry["placed"]["num_train"], entry["placed"]["canvas"])
    if made.digest != entry["placed"]["digest"]:
        raise ArgumentError(f"placed digits have digest {made.digest}, registered is {entry['placed']['digest']}")
    path = work / f"digits-placed-{entry['placed']['canvas']}.npz"
    work.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        names = ("train_images", "train_labels", "test_images", "test_labels")
        np.savez(path, **{name: getattr(made, name).numpy() for name in names})
    return path


def build(
    space: Space, entry: dict[str, Any], archs: list[str], num_runs: int, data: Path | None, work: Path, workers: int
) -> None:
    """Train the truth of a space; its table, without learning curves, goes to data/preregistered/tables/."""
    file, out = FOLDER / entry["file"], table_of(space)
    if out.exists():
        return
    images = [] if data is None else ["--dataset", str(data)]
    runs, collected = work / "runs" / space.name, work / "tables" / f"{space.name}.parquet"
    wanted = ["--archs", ",".join(archs), "--runs", str(num_runs), "--backend", "native", "--workers", str(workers)]
    collected.parent.mkdir(parents=True, exist_ok=True)
    run("channel_bench.cli", "build", str(file), *wanted, "--out", str(runs), *images)
    run("channel_bench.cli", "collect", str(runs), "--space", str(file), "-o", str(collected))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic((out, collected.read_bytes()))


def train(
    space: Space, entry: dict[str, Any], method: str, num_seeds: int, data: Path | None, work: Path, workers: int
) -> None:
    """Train the supernets of a method; their raw scores go to data/preregistered/scores/, a column for each seed."""
    out = scores_of(space, method)
    if out.exists():
        return
    images = [] if data is None else ["--dataset", str(data)]
    folder = work / "scores" / space.name
    wanted = ["--seeds", str(num_seeds), "--jobs", str(workers), "--no-truth", "-o", str(folder)]
    run("harness.cli", "rank", method, "--space", str(FOLDER / entry["file"]), *wanted, *images)
    from harness.score_formats import parquet_of

    parts = [read_scores(folder / f"{method}-seed{seed}.parquet", space) for seed in range(num_seeds)]
    columns = {f"seed{seed}": part.values for seed, part in enumerate(parts)}
    kept = ("recipe", "num_train", "num_val", "bn", "score_by", "validated_on", "options", "code_version")
    made = {name: parts[0].facts[name] for name in kept if name in parts[0].facts}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(
        (out, parquet_of({"arch": space.texts(), **columns}, {"method": method, **space_facts(space), **made}))
    )


def run(*words: str) -> None:
    """Run a command line of this project in a process of its own.

    Raises:
        ArgumentError: It failed; it has said why.
    """
    print("+", words[1], words[2], flush=True)
    if subprocess.run([sys.executable, "-m", *words], check=False).returncode:
        raise ArgumentError(f"{words[1]} {words[2]} failed: see above; the same command continues")


def table_of(space: Space) -> Path:
    """Where the truth of a space is."""
    return FOLDER / "tables" / f"{space.name}.parquet"


def scores_of(space: Space, method: str) -> Path:
    """Where the raw scores of a method are."""
    return FOLDER / "scores" / f"{method}.{space.name}.parquet"


# -- statistics -------------------------------------------------------------------------------------------------------


def interval(values: npt.ArrayLike) -> list[float] | None:
    """Two-sided 95% interval of a mean by Student's t; None where there are fewer than two values."""
    from scipy.stats import t

    found = np.asarray(values, float)
    if len(found) < 2:
        return None
    half = t.ppf((1 + LEVEL) / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return [float(found.mean() - half), float(found.mean() + half)]


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
        files = [scores_of(space, method) for method in supernets["primary"]]
        if not all(path.exists() for path in (table_of(space), *files)):
            not_finished.append(space.name)
            continue
        files += [path for method in supernets["secondary"] if (path := scores_of(space, method)).exists()]
        raw = {
            f"{seed.method}.seed{seed.facts['seed']}": seed.values for path in files for seed in read_seeds(path, space)
        }
        truth = cb.load(space, table_of(space)).accuracies()
        judged[space.name] = judge(space, truth, raw, facts["procedure"]["beta"])
    results = {
        "preregistration_sha256": PREREGISTRATION_SHA256,
        "amendment_sha256": AMENDMENT_SHA256,
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
    table = cb.load(judged.space, table_of(judged.space))
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


# -- the command ------------------------------------------------------------------------------------------------------


def markdown(results: dict[str, Any]) -> str:
    """The outcome as tables: the hypotheses, then the spaces."""
    lines = [
        "| | consensus against | spaces with a gain | mean gain | 95% interval | p | p (Holm) | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results["primary"]:
        low, high = each["interval"] or (np.nan, np.nan)
        verdict = {True: "supported", False: "not supported", None: "too few spaces"}[each.get("supported")]
        lines.append(
            f"| {each['id']} | {each['against']} | {each['num_positive']} of {each['num_spaces']} |"
            f" {signed(each['mean'])} | {signed(low)} to {signed(high)} | {shown_p(each['p'])} |"
            f" {shown_p(each.get('p_holm'))} | {verdict} |"
        )
    forms = ("raw", "concave", "consensus")
    head = ("space", "supernets", "ceiling", "log-paths", "mean of theories", *forms)
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, space in results["spaces"].items():
        for method in dict.fromkeys(each.split(".")[0] for each in space["supernets"]):
            found = [own for each, own in space["supernets"].items() if each.split(".")[0] == method]
            taus = [space["kendall_ceiling"], space["free"]["log-paths"], space["free"]["mean-of-theories"]]
            taus += [float(np.mean([own[form] for own in found])) for form in forms]
            lines.append(f"| {name} | {method}, {len(found)} | {' | '.join(map(plain, taus))} |")
    lines += [f"| {name} | not finished |{' |' * (len(head) - 2)}" for name in results["not_finished"]]
    return "\n".join(lines) + "\n"


def exploratory_markdown(found: dict[str, Any]) -> str:
    """What was chosen without a space and what it gives there, as a table; beside it the registered settings."""
    whole = [number for number, choice in enumerate(found["choices"]) if choice["leave_out"] is None]
    betas = [f"{found['choices'][number]['beta']:g}" for number in whole]
    head = ["space", "supernets", "mean of theories", *(f"beta {beta}" for beta in betas), "chosen elsewhere", "gives"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in found["left_out"]:
        taus = [plain(found["kendall"][row["space"]][number]) for number in whole]
        choice = row["chosen_elsewhere"]
        without = "all sets" if choice["leave_out"] is None else f"without {choice['leave_out']}"
        free = plain(row["mean_of_theories"])
        cells = [row["space"], str(row["num_supernets"]), free, *taus, f"beta {choice['beta']:g}, {without}"]
        lines.append(f"| {' | '.join(cells)} | {plain(row['kendall'])} |")
    means = np.mean(list(found["kendall"].values()), 0)
    chosen = plain(float(np.mean([row["kendall"] for row in found["left_out"]])))
    free = plain(float(np.mean([row["mean_of_theories"] for row in found["left_out"]])))
    lines.append(f"| **mean** | | {free} | {' | '.join(plain(means[number]) for number in whole)} | | {chosen} |")
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any]) -> Figure:
    """Kendall on every finished space: free rankings, one supernet's scores, and what is made of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 0.6 + 0.62 * len(results["spaces"])), layout="constrained")
    axes = figure.subplots()
    for row, space in enumerate(results["spaces"].values()):
        axes.plot([space["kendall_ceiling"]] * 2, [row - 0.35, row + 0.35], color="black", linewidth=1.2)
        primary = [own for name, own in space["supernets"].items() if name.split(".")[0] in results["primary_methods"]]
        for number, (name, marker) in enumerate((("log-paths", "s"), ("mean-of-theories", "D"))):
            axes.plot(space["free"][name], row - 0.1 + 0.2 * number, marker, color=GREY, markersize=5)
        for colour, form in zip(COLOURS, ("raw", "concave", "consensus"), strict=False):
            axes.plot([own[form] for own in primary], [row] * len(primary), "o", color=colour, markersize=5, alpha=0.8)
    handles = [("|", "black", "noise ceiling"), ("s", GREY, "log-paths"), ("D", GREY, "mean of theories")]
    handles += [("o", colour, form) for colour, form in zip(COLOURS, ("raw", "concave", "consensus"), strict=False)]
    for marker, colour, label in handles:
        axes.plot([], [], marker, color=colour, label=label)
    axes.set_yticks(range(len(results["spaces"])), list(results["spaces"]))
    axes.invert_yaxis()
    axes.set_xlabel("Kendall with the trained truth")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plain(value: float) -> str:
    """A Kendall as .123."""
    return f"{value:.3f}".replace("0.", ".", 1)


def signed(value: float | None) -> str:
    """A difference of Kendalls as +.123."""
    return "" if value is None else f"{value:+.3f}".replace("0.", ".", 1)


def shown_p(value: float | None) -> str:
    """A p value to two digits."""
    return "" if value is None else f"{value:.2g}"


def main() -> None:
    """Train what is missing, if asked to; evaluate; write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="Folder for unfinished training; without it nothing is trained.")
    parser.add_argument("--workers", type=int, default=2, help="Processes that train.")
    parser.add_argument(
        "--released", type=Path, help="Folder of the authors' released scores, for the exploratory part."
    )
    parser.add_argument("--changed-code", action="store_true", help="Go on though the code is not as registered.")
    arguments = parser.parse_args()
    try:
        facts = read_preregistration()
        changed = changed_code(facts)
        if changed and not arguments.changed_code:
            raise ArgumentError(
                f"{', '.join(changed)} is not as registered: check out the commit that"
                " docs/explanation/consensus-test.md names, or say --changed-code, which the outcome will show"
            )
        if arguments.work is not None:
            compute(facts, arguments.work.resolve(), arguments.workers)
        results, judged = evaluate(facts)
        everywhere = [*known_spaces(arguments.released), *judged]
        results["exploratory"] = {"leave_one_space_out": leave_one_out(everywhere)}
        write_atomic(
            (RESULTS, (json.dumps(results, indent=1) + "\n").encode()),
            (RESULTS.with_suffix(".md"), markdown(results).encode()),
            (EXPLORATORY, exploratory_markdown(results["exploratory"]["leave_one_space_out"]).encode()),
        )
        if results["spaces"]:
            figure = draw_named(RESULTS.stem, lambda: draw(results))[f"{RESULTS.stem}.png"]
            write_atomic((RESULTS.with_suffix(".png"), figure))
    except ChannelBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(markdown(results))


if __name__ == "__main__":
    main()
