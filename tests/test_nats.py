"""The facade of NATS-Bench: every answer is the table's, and what a table does not hold is a typed error."""

import random

import numpy as np
import pytest
from conftest import make_info, make_record, make_rows, write_table

import channel_bench as cb
from channel_bench.builder.collect import collect
from channel_bench.builder.store import RunStore
from channel_bench.errors import ArchError, ArgumentError, ChannelBenchError, MissingDataError, UnknownNameError
from channel_bench.nats import create, search_space_info
from channel_bench.recipe import get_recipe
from channel_bench.table import Table

SPACE = cb.get_space("resnet")
ARCH = SPACE.text(256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nats")


@pytest.fixture(scope="module")
def table(folder):
    """64 architectures of resnet with up to 3 runs of 2 epochs; one lacks its run 1; times differ by run."""
    rows = [row | {"train_s": 1.5 + row["run"]} for row in make_rows(SPACE, 64, 3)]
    rows = [row for row in rows if (row["arch"], row["run"]) != (ARCH, 1)]
    return Table.read(write_table(folder / "t.parquet", rows, make_info(SPACE, dataset="cifar10")))


@pytest.fixture(scope="module")
def bare(folder):
    """As published: nothing but the best test accuracy of each run."""
    nothing = dict.fromkeys(("test_acc", "train_acc", "train_loss", "test_loss", "train_s", "seed", "best_epoch"))
    rows = [row | nothing for row in make_rows(SPACE, 64, 3)]
    return Table.read(write_table(folder / "bare.parquet", rows, make_info(SPACE, dataset="cifar10")))


@pytest.fixture(scope="module")
def curves(folder):
    """Two runs of one architecture of resnet-mini with learning curves of 2 epochs."""
    store = RunStore.create(folder / "runs", cb.get_space("resnet-mini"), get_recipe("mini", epochs=2), "digits", "d1")
    store.add(make_record("4344424", 0, 60.0))
    store.add(make_record("4344424", 1, 70.0))
    collect(store.folder, folder / "curves.parquet")
    return Table.read(folder / "curves.parquet")


@pytest.fixture
def api(table):
    return create(table)


def trained(table):
    return table.frame()["arch"].tolist()


# -- opening ---------------------------------------------------------------------------------------------------------


def test_create_takes_a_space_a_path_or_a_table_and_what_nats_bench_takes_besides(table):
    mini = create("resnet-mini", "sss", True, False)
    assert mini.table.name == cb.load("resnet-mini").name and len(mini) == 16384
    for api in (create(str(table.path)), create(table.path, "size", fast_mode=False, verbose=True), create(table)):
        assert api.table.info == table.info
    assert repr(api) == "ChannelSize(64/16384 architectures, table='made-up')"
    assert (api.search_space_name, api.is_size, api.is_topology) == ("size", True, False)
    assert (api.full_train_epochs, api.full_epochs_in_paper, api.avaliable_hps) == (2, 2, ["2"])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((None, "sss"), {}, ArgumentError, r"create\(None, ...\) does not say which table: .* \(resnet, mobilenet"),
        (({"meta_archs": []}, "sss"), {}, ArgumentError, "does not say which table"),
        (("resnet-mini", "tss"), {}, ArgumentError, "search space 'tss' does not exist here"),
        (("resnt",), {}, UnknownNameError, "did you mean 'resnet'"),
        (("nowhere.parquet",), {}, MissingDataError, "does not exist"),
        (("resnet-mini",), {"metric": "valid"}, ArgumentError, "metric 'valid' is not one of"),
        (("resnet-mini",), {"search_on": "valid"}, ArgumentError, "there is no validation split"),
        (("resnet-mini",), {"assumed_train_s": 0}, ArgumentError, "assumed_train_s is 0"),
        (("resnet-mini",), {"assumed_train_s": float("nan")}, ArgumentError, "assumed_train_s is nan"),
    ],
)
def test_what_cannot_be_opened_says_why(arguments, options, error, message):
    with pytest.raises(error, match=message):
        create(*arguments, **options)


def test_the_metric_has_to_be_in_the_table(bare):
    with pytest.raises(MissingDataError, match="has no test_acc"):
        create(bare, metric="test_acc")


# -- architectures ---------------------------------------------------------------------------------------------------


def test_architectures_are_texts_of_channels_in_index_order(api):
    texts = list(api)
    assert texts == api.meta_archs and len(texts) == len(api) == 16384
    for index in (0, 1, 5000, 16383):
        text = ":".join(map(str, SPACE.channels({"index": index})))
        assert texts[index] == api[index] == api.arch(index) == text
        for encoding in (text, index, np.int64(index), SPACE.text(index), SPACE.channels(text.replace(":", ","))):
            assert api.query_index_by_arch(encoding) == index

    class Structure:
        def tostr(self):
            return api.arch(77)

    assert api.query_index_by_arch(Structure()) == 77
    mini = create("resnet-mini")  # where channels look like digits
    assert all(mini.query_index_by_arch(mini.arch(index)) == index for index in range(0, 16384, 371))


@pytest.mark.parametrize(
    "arch",
    [-1, 16384, "100:256:256:512:512:512:512", "64:64", "64:64:64:128:128:128:x", "", "4344425", None, [1] * 6, 1.5],
)
def test_an_unknown_architecture_is_one_typed_error_everywhere(arch, api):
    asked = [api.query_index_by_arch, api.get_more_info, api.get_cost_info, api.get_net_config, api.query_by_arch]
    for ask in [*asked, api.query_meta_info_by_index]:
        with pytest.raises(ArchError):
            ask(arch)
    if isinstance(arch, int):
        for ask in (api.arch, api.__getitem__):
            with pytest.raises(ArchError, match="out of range"):
                ask(arch)


def test_candidates_of_every_layer_span_the_space(api):
    info = search_space_info("resnet")
    assert info["num_layers"] == len(info["candidates"]) == 7
    assert info["candidates"][0] == [64, 128, 192, 256] and info["candidates"][6] == [128, 256, 384, 512]
    random.seed(1)
    drawn = [":".join(str(random.choice(widths)) for widths in info["candidates"]) for _ in range(50)]
    assert all(api.arch(api.query_index_by_arch(arch)) == arch for arch in drawn)


def test_random_follows_the_global_seed_and_covers_the_space(api):
    random.seed(3)
    first = [api.random() for _ in range(4000)]
    random.seed(3)
    assert first == [api.random() for _ in range(4000)]
    assert 0 <= min(first) < 100 and 16283 < max(first) < 16384
    assert np.mean(first) == pytest.approx(16383 / 2, abs=5 * 16384 / 12**0.5 / 4000**0.5)


# -- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["best_test_acc", "test_acc"])
def test_accuracies_are_the_tables(metric, table):
    api = create(table, metric=metric)
    for arch in trained(table):
        info = api.get_more_info(arch, "cifar10", hp="2", is_random=False)
        assert info["test-accuracy"] == pytest.approx(table.accuracy(arch, metric=metric), abs=1e-9)
        assert info == api.get_more_info(SPACE.index(arch))  # the mean is the default
        there = [run for run in range(3) if (arch, run) != (ARCH, 1)]
        for run in there:
            info = api.get_more_info(arch, is_random=run)
            assert info["test-accuracy"] == table.accuracy(arch, run=run, metric=metric)
            assert info["train-all-time"] == 1.5 + run and info["train-per-time"] == (1.5 + run) / 2
            assert f"run {run}" in info["comment"]
    assert table.meaning(metric) in api.get_more_info(arch)["comment"]
    assert table.name in info["comment"] and "cifar10" in info["comment"]


def test_a_random_run_is_one_that_is_there(table):
    api = create(table)
    random.seed(0)
    seen = {api.get_more_info(ARCH, is_random=True)["test-accuracy"] for _ in range(40)}
    assert seen == {table.accuracy(ARCH, run=0), table.accuracy(ARCH, run=2)}
    with pytest.raises(ArgumentError, match=r"is_random is 1: allowed are False, True and the runs \[0, 2\]"):
        api.get_more_info(ARCH, is_random=1)
    for seed in (777, -1, "0", None, 0.5):
        with pytest.raises(ArgumentError, match="allowed are False, True and the runs"):
            api.get_more_info(ARCH, is_random=seed)


def test_all_values_of_an_answer_are_of_one_epoch(table):
    best, last = create(table).get_more_info(0), create(table, metric="test_acc").get_more_info(0)
    assert set(best) == {"comment", "test-accuracy", "train-all-time", "train-per-time"}
    assert set(last) == set(best) | {"test-loss", "train-loss", "train-accuracy"}
    assert (last["test-loss"], last["train-loss"], last["train-accuracy"]) == pytest.approx((0.5, 0.1, 99.0))
    with pytest.raises(
        MissingDataError, match="'test-loss' is missing: .* same epoch .*; available are comment, test-acc"
    ):
        best["test-loss"]


def test_epochs_are_read_off_the_learning_curves(curves, table):
    api = create(curves)
    for iepoch, accuracy in ((0, 1.0), (1, 65.0)):
        info = api.get_more_info("4344424", iepoch=iepoch)
        assert info["test-accuracy"] == info["train-accuracy"] == info["test-loss"] == info["train-loss"] == accuracy
        assert info["train-all-time"] == (iepoch + 1) / 2 and info["train-per-time"] == 0.5
        assert f"after epoch {iepoch + 1} of 2" in info["comment"]
    assert api.get_more_info("4344424", iepoch=1, is_random=1)["test-accuracy"] == 70
    assert api.get_more_info("4344424")["test-accuracy"] == 65
    for iepoch in (2, -1, 0.0, True, "0"):
        with pytest.raises(ArgumentError, match=r"allowed are 0..1 and None"):
            api.get_more_info("4344424", iepoch=iepoch)
    with pytest.raises(MissingDataError, match="has no learning curves"):
        create(table).get_more_info(0, iepoch=0)


def test_what_a_table_does_not_hold_is_an_error_that_says_what_there_is(api, bare):
    for dataset in ("cifar100", "ImageNet16-120", "cifar10-valid"):
        with pytest.raises(MissingDataError, match=f"data set cifar10 has no results on '{dataset}'"):
            api.get_more_info(0, dataset)
    for hp in ("12", 12, "90", "01", "200"):
        for ask in (api.get_more_info, api.get_cost_info):
            with pytest.raises(
                MissingDataError, match=f"no results of hp={hp!r}: all networks were trained for 2 epochs"
            ):
                ask(0, "cifar10", hp=hp)
    assert api.get_more_info(0, hp=2) == api.get_more_info(0, hp="02") == api.get_more_info(0)
    untrained = SPACE.index("4344424")
    for ask in (api.get_more_info, api.query_by_arch, api.query_meta_info_by_index):
        with pytest.raises(MissingDataError, match="no finished run of architecture 4344424"):
            ask(untrained)
    info = create(bare).get_more_info(0)
    assert set(info) == {"comment", "test-accuracy"} and "times" not in info["comment"]
    reasons = {
        "valid-accuracy": "no validation split",
        "valid-per-time": "no validation split",
        "train-all-time": "no training times",
        "train-loss": "none that belongs to the same epoch",
        "test-all-time": "none that belongs to the same epoch",
        "flops": "no such key",
    }
    for key, reason in reasons.items():
        assert key not in info and info.get(key) is None
        with pytest.raises(
            MissingDataError, match=f"{key!r} is missing: .*{reason}.*; available are comment, test-accuracy"
        ):
            info[key]


def test_costs_are_in_millions(api, bare):
    for index in (0, 5000, 16383):
        info = api.get_cost_info(index, "cifar10")
        assert (info["flops"] * 1e6, info["params"] * 1e6) == pytest.approx((SPACE.flops(index), SPACE.params(index)))
    info = api.get_cost_info(0)
    assert (info["T-train@total"], info["T-train@epoch"]) == (2.5, 1.25)
    assert set(api.get_cost_info(5000)) == set(create(bare).get_cost_info(0)) == {"flops", "params"}
    with pytest.raises(MissingDataError, match="'channel-bench latency' measures them"):
        info["latency"]
    with pytest.raises(MissingDataError, match="'latency' is missing"):
        api.get_latency(0, "cifar10")
    with pytest.raises(MissingDataError, match=r"'T-ori-test@total' is missing: .* no such times"):
        info["T-ori-test@total"]


def test_the_configuration_builds_the_network(api):
    import torch

    from channel_bench.training.models import build_model

    config = create("resnet-mini").get_net_config(100, "digits")
    model = build_model(cb.get_space(config["space"]), config["arch"], torch.Generator().manual_seed(0))
    assert sum(parameter.numel() for parameter in model.parameters()) == cb.get_space("resnet-mini").params(100)
    assert (config["channels"], config["num_classes"]) == ("2:2:2:8:12:8:4", 10)
    assert config["channels"] == create("resnet-mini").arch(100)
    with pytest.raises(MissingDataError, match="no results on 'cifar100'"):
        api.get_net_config(0, "cifar100")


def test_texts_and_meta_information(api, table, capsys):
    text = api.query_info_str_by_arch(api.arch(256))
    assert api.query_by_arch(256, "2") == api.query_by_arch(256, hp=2) == text
    assert (
        f"{table.accuracy(ARCH):.3f}%" in text and api.arch(256) in text and f"{SPACE.flops(ARCH) / 1e6:.6f} M" in text
    )
    api.show(256)
    assert capsys.readouterr().out == text + "\n"
    assert api.query_meta_info_by_index(256, "2") == table.query(ARCH)


# -- searching -------------------------------------------------------------------------------------------------------


def test_a_search_has_to_be_told_that_it_sees_test_accuracies(api, table):
    with pytest.raises(MissingDataError, match="has no validation accuracy.*search_on='test'"):
        api.simulate_train_eval(0, "cifar10")
    assert api.used_time == 0
    searching = create(table, search_on="test")
    random.seed(0)
    total, seen = 0.0, set()
    for _ in range(30):
        accuracy, latency, seconds, used = searching.simulate_train_eval(0, "cifar10", hp=searching.full_train_epochs)
        total += seconds
        assert latency is None and used == searching.used_time == total
        seen.add((accuracy, seconds))
    assert seen == {(table.accuracy(0, run=run), 1.5 + run) for run in range(3)}
    assert searching.simulate_train_eval(0, account_time=False)[3] == searching.used_time == total
    searching.reset_time()
    assert searching.used_time == 0
    with pytest.raises(MissingDataError, match="no results of hp='12'"):
        searching.simulate_train_eval(0, "cifar10", hp="12")
    assert searching.used_time == 0


def test_times_that_are_not_there_are_assumed_only_when_told(bare, curves):
    with pytest.raises(MissingDataError, match="has no training times: create.*assumed_train_s=SECONDS"):
        create(bare, search_on="test").simulate_train_eval(0)
    api = create(bare, search_on="test", assumed_train_s=100)
    assert [api.simulate_train_eval(0)[2:] for _ in range(2)] == [(100, 100), (100, 200)]
    timed = create(curves, search_on="test", assumed_train_s=100)  # whose own times win
    assert timed.simulate_train_eval("4344424")[2] == 1.0
    assert timed.simulate_train_eval("4344424", iepoch=0)[::2] == (1.0, 0.5)


def test_the_best_within_budgets_is_the_tables(api, table):
    assert api.find_best() == (table.top(1)[0].index, table.top(1)[0].mean)
    flops = sorted(table.frame()["flops"])
    for most in (flops[0], flops[20], flops[-1]):
        best = table.top(1, max_flops=most)[0]
        # The budget as get_cost_info gives it lets its own architecture through, whatever the division rounds.
        assert api.find_best("cifar10", "test", flop_max=most / 1e6) == (best.index, best.mean)
    best = table.top(1, max_flops=5e8, max_params=4e6)[0]
    assert api.find_best("cifar10", "ori-test", 500, 4.0, hp="2", enforce_all=True) == (best.index, best.mean)
    assert api.find_best(flop_max=float("inf")) == api.find_best()
    with pytest.raises(ArgumentError, match="no trained architecture has flops <= 90,096,895"):
        api.find_best(flop_max=90.096895)
    with pytest.raises(ArgumentError, match="flop_max is 500,000,000 millions, the widest architecture has 1436.23"):
        api.find_best(flop_max=5e8)
    with pytest.raises(ArgumentError, match="param_max is '4M'"):
        api.find_best(param_max="4M")
    for split in ("valid", "x-valid", "train", "x-test"):
        with pytest.raises(MissingDataError, match=f"no accuracy on set '{split}': allowed are 'test'"):
            api.find_best("cifar10", split)


def test_no_flops_budget_is_lost_in_rounding():
    from channel_bench.nats import _plain

    for name in cb.list_spaces():
        flops = cb.get_space(name).flops()
        assert all(_plain("flop_max", count / 1e6, flops.max()) == count for count in flops[::7].tolist())


def test_a_script_of_nats_bench_runs():
    """Regularised evolution as its authors write it (Real et al. 2019), with only the import and `create` changed."""
    api = create("resnet-mini", "sss", fast_mode=True, verbose=False, search_on="test")
    candidates = search_space_info("resnet-mini")["candidates"]
    random.seed(0)
    population, history = [], []

    def evaluate(arch):
        accuracy, _, _, total = api.simulate_train_eval(arch, "digits", hp=api.full_train_epochs)
        population.append((accuracy, arch))
        history.append((accuracy, arch, total))

    api.reset_time()
    while len(population) < 10:
        evaluate(":".join(str(random.choice(widths)) for widths in candidates))
    while history[-1][2] < 15:
        parent = max(random.sample(population, 5))[1].split(":")
        slot = random.randrange(len(parent))
        parent[slot] = str(random.choice(candidates[slot]))
        evaluate(":".join(parent))
        population.pop(0)
    best = api.query_index_by_arch(max(history)[1])
    found = api.get_more_info(best, "digits", is_random=False)["test-accuracy"]
    assert found > np.median(api.table.accuracies()) and len(history) > 20
    assert api.query_info_str_by_arch(best, api.full_train_epochs).startswith(api.arch(best))


def test_on_the_published_table(published):
    api = create("resnet", search_on="test", assumed_train_s=600)
    assert api.get_more_info("256:192:256:512:512:256:512", "cifar10", hp="60")["test-accuracy"] == pytest.approx(
        93.8933, abs=1e-4
    )
    assert "over 60 epochs" in api.get_more_info(0)["comment"] and len(api.table) == 16384
    index, accuracy = api.find_best("cifar10", "test", flop_max=500)
    assert (api.table.space.text(index), round(accuracy, 3)) == ("3224221", 93.513)
    assert api.simulate_train_eval(index, "cifar10")[2] == 600
    for ask in (
        lambda: api.get_more_info(0, "cifar10", hp="12"),
        lambda: api.get_more_info(0, "cifar10-valid"),
        lambda: api.get_more_info(0, "cifar10", iepoch=11),
        lambda: api.get_latency(0, "cifar10"),
        lambda: api.get_more_info(0)["valid-accuracy"],
        lambda: create("resnet").simulate_train_eval(0, "cifar10"),
        lambda: create("resnet", search_on="test").simulate_train_eval(0, "cifar10"),
    ):
        with pytest.raises(ChannelBenchError):
            ask()
