"""Optimisers on the table: replay against hand-made tables, judging by hand, ranks against scipy, the command."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats

import channel_bench as cb
from channel_bench.errors import ArgumentError, CorruptFileError, MethodError, MissingDataError
from channel_bench.space import NUM_ARCHS, get_space
from harness.optimise.judge import dominated_area, floor, outcome_of, unseen
from harness.optimise.replay import MAX_REPEATS, Replay, Trace
from harness.optimise.run import run_searches
from harness.optimiser import OPTIMISERS, Trial, neighbours, register_optimiser
from harness.stats.critical import rank_groups

SPACE = get_space("resnet-mini")
ALL = sorted(OPTIMISERS.built_in)


@pytest.fixture(scope="module")
def table():
    return cb.load("resnet-mini")


class Fixed:
    """Asks for what it is given, and notes what it is told."""

    def __init__(self, trials):
        self.trials, self.told = list(trials), []

    def start(self, domain, rng):
        self.left = list(self.trials)

    def ask(self):
        return self.left.pop(0)

    def tell(self, trial, values):
        self.told.append((trial, values))


def trace_of(indices, accuracies, epochs=None, run=0, spent=None):
    num = len(indices)
    return Trace(
        0,
        run,
        np.array(indices, np.int16),
        np.array(epochs or [20] * num, np.int16),
        np.array(accuracies, np.float32),
        np.arange(1.0, num + 1) if spent is None else np.array(spent),
    )


# -- replay ----------------------------------------------------------------------------------------------------------


def test_a_search_is_told_one_run_and_pays_for_what_is_new(table):
    asked = [Trial(5, 4), Trial(5, 4), Trial(5, 10), Trial(7), Trial(5), Trial(9)]
    optimiser = Fixed(asked)
    trace = Replay(table, budget=2.0).search(optimiser, seed=4)  # 4 modulo 3 runs
    assert trace.run == 1
    curve = table.curves(5)["test_acc"][1]
    assert [values[0] for _, values in optimiser.told] == pytest.approx(
        [curve[:4].max(), curve[:4].max(), curve[:10].max(), table.accuracy("1111124", run=1), table.accuracies(1)[5]],
        abs=1e-4,
    )
    # 4 of 20 epochs, 6 more of them, another network, the last 10: two trainings; the next is not paid for any more.
    assert trace.indices.tolist() == [5, 5, 7, 5] and trace.epochs.tolist() == [4, 10, 20, 20]
    assert trace.spent.tolist() == pytest.approx([0.2, 0.5, 1.5, 2.0])


def test_seconds_are_those_of_the_table(table):
    replay = Replay(table, budget=1e9, in_seconds=True)
    trace = Replay(table, budget=float(replay.seconds[[3, 8], 0].sum()), in_seconds=True).search(
        Fixed([Trial(3), Trial(8), Trial(1)]), seed=0
    )
    assert trace.spent.tolist() == pytest.approx(np.cumsum(replay.seconds[[3, 8], 0]).tolist())


def test_whoever_asks_only_for_what_is_known_is_stopped(table):
    optimiser = Fixed([Trial(1)] * (MAX_REPEATS + 10))
    assert len(Replay(table, 5.0).search(optimiser, 0).indices) == 1
    assert len(optimiser.told) == MAX_REPEATS + 1


@pytest.mark.parametrize("wrong", [Trial(-1), Trial(NUM_ARCHS), Trial(3, 0), Trial(3, 21), Trial(1.5), None, "1111111"])
def test_a_question_that_is_no_training_is_refused(table, wrong):
    with pytest.raises(
        MethodError, match=r"ask\(\) returned .*: it must return Trial\(arch, epochs\) with arch 0..16383"
    ):
        Replay(table, 5.0).search(Fixed([wrong]), 0)


def test_tables_that_cannot_be_replayed_are_refused(table, small_table_path):
    with pytest.raises(MissingDataError, match="holds all runs of 64 architectures.*all 16,384 are needed"):
        Replay(cb.Table.read(small_table_path), 10.0)
    for budget in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ArgumentError, match="budget is .*: allowed are numbers > 0"):
            Replay(table, budget)
    with pytest.raises(ArgumentError, match="flops must be 16384 finite numbers"):
        Replay(table, 5.0, cost=np.zeros(5))
    with pytest.raises(ArgumentError, match="budget 0.5 does not pay for the first training"):
        Replay(table, 0.5).search(Fixed([Trial(1)]), 0)


def test_a_published_table_has_no_curves_and_no_times(published):
    table = cb.load("resnet")
    assert not Replay(table, 5.0).has_curves
    with pytest.raises(
        MissingDataError, match="successive_halving compares networks after a few epochs.*no learning curv"
    ):
        Replay(table, 5.0).search(OPTIMISERS.make("successive_halving"), 0)
    with pytest.raises(MissingDataError, match="has no training times: give the budget in trainings"):
        Replay(table, 5.0, in_seconds=True)


def test_neighbours_differ_in_one_slot():
    around = neighbours()
    assert around.shape == (NUM_ARCHS, 21) and not around.flags.writeable
    archs = SPACE.archs()
    assert ((archs[around] != archs[:, None]).sum(2) == 1).all()
    assert all(len(set(row)) == 21 for row in around[:: NUM_ARCHS // 50].tolist())


# -- judging ---------------------------------------------------------------------------------------------------------


def test_regret_is_that_of_the_choice_by_the_other_runs(table):
    replay = Replay(table, 4.0)
    truth = table.cells()[:, 1:].mean(1)
    assert unseen(table, 0) == pytest.approx(truth, abs=5e-5)
    # The second is the best told, the third equals it and comes later, the fourth was trained less long.
    trace = trace_of([10, 20, 30, 40], [90, 95, 95, 99], epochs=[20, 20, 20, 19])
    found = outcome_of("x", [trace], replay, np.array([0.5, 1, 2, 3, 4]))
    wanted = truth.max() - truth[[10, 20, 20, 20]]
    assert np.isnan(found.values[0, 0]) and found.values[0, 1:] == pytest.approx(wanted, abs=2e-4)
    seen = table.cells()[:, 0]
    assert found.seen[0, 1:] == pytest.approx(seen.max() - seen[[10, 20, 20, 20]], abs=2e-4)


def test_the_floor_is_the_best_of_one_run_by_the_others(table):
    cells = table.cells()
    regrets = []
    for run in range(3):
        others = np.delete(cells, run, axis=1).mean(1)
        regrets.append(others.max() - others[np.argmax(cells[:, run])])
    assert floor(Replay(table, 1.0)) == pytest.approx(np.mean(regrets), abs=1e-3)


def test_the_interval_is_students(table):
    rng = np.random.default_rng(0)
    traces = [trace_of([int(rng.integers(NUM_ARCHS))], [90.0]) for _ in range(5)]
    found = outcome_of("x", traces, Replay(table, 1.0), np.array([1.0]))
    interval = stats.t.interval(0.95, 4, found.values.mean(), stats.sem(found.values[:, 0]))
    assert (found.mean() - found.half_width())[0] == pytest.approx(interval[0])
    assert np.isnan(outcome_of("x", traces[:1], Replay(table, 1.0), np.array([1.0])).half_width()).all()


def test_the_dominated_area_is_a_union_of_rectangles():
    rng = np.random.default_rng(1)
    for _ in range(20):
        accuracies, costs = rng.integers(0, 12, 6).astype(float), rng.integers(0, 12, 6).astype(float)
        grid = np.zeros((12, 12), bool)  # cell (a, c): accuracy a..a+1 above 0, cost c..c+1 below 12
        for accuracy, cost in zip(accuracies.astype(int), costs.astype(int), strict=True):
            grid[:accuracy, cost:] = True
        assert dominated_area(accuracies, costs, (0.0, 12.0)) == grid.sum()


def test_two_objectives_are_judged_by_the_front(table):
    flops = SPACE.flops().astype(float)
    replay = Replay(table, 3.0, cost=flops)
    truth = table.cells()[:, 1:].mean(1)
    trace = trace_of([0, 16383], table.accuracies(0)[[0, 16383]])
    share = outcome_of("x", [trace], replay, np.array([1.0, 2.0])).values[0]
    corner = truth.min(), flops.max()
    whole = dominated_area(truth, flops, corner)
    # The widest costs as much as the corner, so it adds nothing.
    assert share == pytest.approx([dominated_area(truth[:1], flops[:1], corner) / whole] * 2, rel=1e-3)
    assert 0 < floor(replay) < 1


def test_groups_are_demsars():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(30, 4)) + [0, 0.1, 2, 5]
    groups = rank_groups(list("abcd"), values)
    assert groups.names == ["d", "c", *groups.names[2:]] and set(groups.names[2:]) == {"a", "b"}
    assert groups.p_value == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    # Demsar 2006, Table 5: q of four at 5% is 2.569.
    assert groups.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 30)), rel=1e-3)
    assert groups.cliques == [(2, 3)]
    equal = rank_groups(["a", "b"], np.ones((5, 2)))
    assert equal.mean_ranks == [1.5, 1.5] and equal.cliques == [(0, 1)] and np.isnan(equal.p_value)
    with pytest.raises(ArgumentError, match="cannot rank 1 algorithms over 3 blocks"):
        rank_groups(["a"], np.ones((3, 1)))


# -- optimisers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replays(table):
    """Replays of 30 trainings, more than a first generation of evolution, and of 60."""
    return Replay(table, 30.0), Replay(table, 60.0)


@pytest.mark.parametrize("name", ALL)
def test_every_optimiser_repeats_itself_and_beats_chance_on_the_run_it_sees(replays, table, name):
    short, long = replays
    optimiser = OPTIMISERS.make(name)
    first, again = short.search(optimiser, 3), short.search(optimiser, 3)
    assert first.indices.tolist() == again.indices.tolist() and first.accuracies.tolist() == again.accuracies.tolist()
    assert first.indices.tolist() != short.search(optimiser, 4).indices.tolist()
    found = long.search(optimiser, 3)
    whole = found.indices[found.epochs == 20]
    assert len(set(whole.tolist())) == len(whole)
    # The best of one random training is the median; sixty trainings end far above it.
    assert found.accuracies[found.epochs == 20].max() > np.quantile(table.accuracies(0), 0.95)


def test_what_learns_beats_random_search(table):
    replay = Replay(table, 200.0)
    seen = {
        name: outcome_of(name, run_searches(name, replay, 30), replay).seen[:, -1]
        for name in ("random_search", "regularised_evolution", "reinforce")
    }
    for name in ("regularised_evolution", "reinforce"):
        assert stats.ttest_ind(seen[name], seen["random_search"], alternative="less").pvalue < 1e-3


@pytest.mark.parametrize("name", ["random_search", "regularised_evolution", "nsga2", "tpe"])
def test_two_objectives(table, name):
    replay = Replay(table, 40.0, cost=SPACE.flops().astype(float))
    trace = replay.search(OPTIMISERS.make(name), 0)
    assert len(trace.indices) == 40
    assert 0.3 < outcome_of(name, [trace], replay).values[0, -1] < 1


def test_local_search_climbs_to_a_peak():
    """On sum of widths the only peak is the widest: it is found by at most 21 questions a step."""
    optimiser = OPTIMISERS.make("local_search")
    from harness.optimiser import Domain

    optimiser.start(Domain(SPACE, 20, True, 1e9), np.random.default_rng(0))
    for _ in range(22 * 22):
        trial = optimiser.ask()
        if trial.arch == NUM_ARCHS - 1:
            break
        optimiser.tell(trial, (float(SPACE.archs()[trial.arch].sum()),))
    assert trial.arch == NUM_ARCHS - 1


def test_successive_halving_promotes_the_best_third():
    from harness.optimisers.successive_halving import Bracket, rungs

    assert rungs(20, 3, 2) == [2, 6, 18, 20] and rungs(2, 3, 2) == [2] and rungs(20, 4, 5) == [5, 20]
    bracket = Bracket([2, 6], list(range(9)), 3)
    trained = []
    while (trial := bracket.ask()) is not None:
        trained.append(trial)
        bracket.tell(trial, float(trial.arch))
    assert [trial.arch for trial in trained if trial.epochs == 6] == [8, 7, 6]
    assert sum(trial.epochs == 2 for trial in trained) == 9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("regularised_evolution", {"population": 0}, "population is 0: allowed are 1 and above"),
        ("reinforce", {"lr": 0.0}, "lr is 0.0: allowed are numbers > 0"),
        ("reinforce", {"momentum": 1.0}, "momentum is 1.0"),
        ("successive_halving", {"eta": 1}, "eta is 1: allowed are 2 and above"),
        ("hyperband", {"first": 0}, "first is 0"),
        ("gaussian_process", {"initial": 1}, "initial is 1"),
        ("nsga2", {"population": 1}, "population is 1"),
        ("tpe", {"sampler": "gp"}, "sampler is 'gp': allowed are tpe, random, nsga2"),
        ("local_search", {"steps": 3}, "has no option 'steps'"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        OPTIMISERS.make(name, **options)


# -- many searches ---------------------------------------------------------------------------------------------------


def test_searches_are_kept_and_go_on(table, tmp_path):
    replay = Replay(table, 30.0)
    first = run_searches("random_search", replay, 3, tmp_path)
    path = tmp_path / "random_search.resnet-mini.parquet"
    written = path.read_bytes()
    counts = []
    more = run_searches("random_search", replay, 5, tmp_path, on_done=counts.append)
    assert counts[0] == 3 and sum(counts) == 5
    assert [trace.seed for trace in more] == [0, 1, 2, 3, 4]
    for one, other in zip(first, more, strict=False):
        assert one.indices.tolist() == other.indices.tolist() and one.spent.tolist() == other.spent.tolist()
    assert path.read_bytes() != written
    kept = path.read_bytes()
    assert len(run_searches("random_search", replay, 2, tmp_path)) == 2 and path.read_bytes() == kept
    with pytest.raises(ArgumentError, match="was made with another budget: delete it, or choose another folder"):
        run_searches("random_search", Replay(table, 31.0), 3, tmp_path)
    path.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(CorruptFileError, match="holds no searches .*delete it to search again"):
        run_searches("random_search", replay, 3, tmp_path)


def test_a_killed_study_keeps_its_searches(table, tmp_path):
    code = (
        "import sys; from pathlib import Path; import channel_bench as cb, harness.optimise.run as run\n"
        "from harness.optimise.replay import Replay; run.CHUNK_S = 0.02\n"
        "run.run_searches('random_search', Replay(cb.load('resnet-mini'), 30.0), 10**6, Path(sys.argv[1]))\n"
    )
    path = tmp_path / "random_search.resnet-mini.parquet"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path])
    try:
        for _ in range(600):
            if path.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    replay, counts = Replay(table, 30.0), []
    found = run_searches("random_search", replay, 5, tmp_path, on_done=counts.append)
    assert counts[0] >= 1
    fresh = run_searches("random_search", replay, 5)
    assert [trace.indices.tolist() for trace in found] == [trace.indices.tolist() for trace in fresh]


def test_processes_find_what_one_process_finds(table):
    replay = Replay(table, 60.0)
    alone = run_searches("nsga2", replay, 6)
    import harness.optimise.run as run

    apart = sorted(
        (trace for group in run._searches("nsga2", replay, list(range(6)), 2, {}) for trace in group),
        key=lambda trace: trace.seed,
    )
    assert [trace.indices.tolist() for trace in alone] == [trace.indices.tolist() for trace in apart]


@register_optimiser("test_that_breaks")
class Breaks:
    def start(self, domain, rng):
        pass

    def ask(self):
        raise ZeroDivisionError("no idea")

    def tell(self, trial, values):
        pass


def test_an_optimiser_that_raises_is_named(table):
    with pytest.raises(MethodError, match=r"start\(\), ask\(\) or tell\(\) raised ZeroDivisionError: no idea"):
        Replay(table, 5.0).search(Breaks(), 0)


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_tables_and_figures_and_goes_on(run_cli, tmp_path):
    asked = (
        "optimise",
        "random_search,local_search",
        "--space",
        "resnet-mini",
        "--seeds",
        4,
        "--budget",
        20,
        "-o",
        tmp_path,
    )
    code, out, err = run_cli("channel-harness", *asked)
    assert code == 0, err
    assert "Optimisers on resnet-mini: regret, percentage points" in out and "Mean rank over 1 space" in out
    names = {path.name for path in tmp_path.iterdir()}
    assert {"optimisers.md", "optimisers.json", "optimisers.tex", "optimisers.png", "optimisers.ranks.pdf"} <= names
    code, out, _ = run_cli("channel-harness", *asked, "--json")
    found = json.loads(out)
    assert {each["optimiser"] for each in found["optimisers"]} == {"random_search", "local_search"}
    assert found == json.loads((tmp_path / "optimisers.json").read_text())


def test_a_plug_in_file_is_an_optimiser(run_cli, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from harness.optimiser import Trial\n"
        "class Upwards:\n"
        "    def start(self, domain, rng): self.next = 0\n"
        "    def ask(self): self.next += 1; return Trial(self.next)\n"
        "    def tell(self, trial, values): pass\n"
    )
    code, out, err = run_cli(
        "channel-harness", "optimise", f"{tmp_path}/mine.py:Upwards", "--space", "resnet-mini", "--seeds", 2, "--json"
    )
    assert code == 0, err
    assert json.loads(out)["optimisers"][0]["optimiser"] == "Upwards"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all"], "no space is chosen: --space is one of"),
        (["nothing", "--space", "resnet-mini"], "unknown optimiser 'nothing'"),
        (["all", "--space", "resnet-mini", "--seeds", 0], "number of seeds is 0"),
        (["all", "--space", "resnet-mini", "--budget", 0], "budget is 0.0: allowed are numbers > 0"),
        (["all", "--space", "resnet-mini", "--option", "eta=3"], "--option is for one optimiser, and all are chosen"),
        (["all", "--space", "resnet-mini", "--objectives", "flops"], "objectives 'flops': allowed are accuracy, and"),
        (["local_search", "--space", "resnet-mini", "--objectives", "accuracy,flops"], "looks at the accuracy only"),
        (["all", "--space", "resnet-mini", "--objectives", "accuracy,latency"], "--latency FILE.json and --objectives"),
        (["all", "--space", "resnet-mini", "--space", "mobilenet-mini", "--table", "x"], "are of one space, and 2 are"),
    ],
)
def test_wrong_commands_are_one_line(run_cli, arguments, message):
    code, out, err = run_cli("channel-harness", "optimise", *arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
