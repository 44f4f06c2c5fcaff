"""Tasks, the contract of methods, and what each built-in method does in a step."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import Isolated
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError, MethodError, UnknownNameError
from channel_bench.recipe import get_recipe
from harness import method as method_module
from harness.method import register, score_all
from harness.methods import autoslim, get_method, list_methods, uniform
from harness.ranking.run import rank
from harness.search.run import search
from harness.searcher import Budget
from harness.searchers import get_searcher
from harness.supernet import training
from harness.supernet.network import Supernet
from harness.supernet.training import make_supernet, train_supernet
from harness.task import Task, make_task, supernet_recipe

SPACE = cb.get_space("resnet-mini")
BUILT_IN = ["autoslim", "bcnet", "bcnet_v2", "fair", "fur", "htas", "mask_gumbel", "tas", "uniform"]


def short_task(digits, seed=0, **changes):
    """One epoch of three batches."""
    task = make_task(SPACE, digits, seed=seed, recipe=supernet_recipe(SPACE, 1), **changes)
    return dataclasses.replace(task, train_images=task.train_images[:192], train_labels=task.train_labels[:192])


# -- the task ---------------------------------------------------------------------------------------------------


def test_held_out_images_are_training_images_that_are_not_trained_on(digits):
    task = make_task(SPACE, digits)
    assert (len(task.train_labels), len(task.val_labels)) == (900, 300)
    everything = sorted(image.numpy().tobytes() for image in torch.cat([task.train_images, task.val_images]))
    assert everything == sorted(image.numpy().tobytes() for image in digits.train_images)
    other_seed = make_task(SPACE, digits, seed=5)
    assert torch.equal(task.val_images, other_seed.val_images)
    literal = make_task(SPACE, digits, validate_on="test")
    assert torch.equal(literal.val_images, digits.test_images) and len(literal.train_labels) == 1200


def test_validation_batches_are_equal_and_cover_everything(digits, monkeypatch):
    for limit, sizes in ((2500, [597]), (200, [199] * 3), (100, [100] * 3 + [99] * 3)):
        monkeypatch.setattr("harness.task.MAX_VALIDATION_BATCH", limit)
        calibration, batches = make_task(SPACE, digits, validate_on="test").validation_batches()
        assert calibration == ()
        assert [len(labels) for _, labels in batches] == sizes
        assert torch.equal(torch.cat([labels for _, labels in batches]), digits.test_labels)


def test_a_task_has_no_way_to_the_table_or_the_hidden_test_images(digits):
    task = make_task(SPACE, digits)
    tensors = [getattr(task, field.name) for field in dataclasses.fields(Task)]
    shown = {
        image.numpy().tobytes()
        for value in tensors
        if isinstance(value, torch.Tensor) and value.ndim == 4
        for image in value
    }
    hidden = {image.numpy().tobytes() for image in digits.test_images}
    trained = {image.numpy().tobytes() for image in digits.train_images}
    assert not shown & (hidden - trained)


def test_bad_tasks_are_refused(digits):
    tiny = dataclasses.replace(digits, train_images=digits.train_images[:7], train_labels=digits.train_labels[:7])
    with pytest.raises(ArgumentError, match="7 training images are too few"):
        make_task(SPACE, tiny)
    with pytest.raises(ArgumentError, match="validate_on 'train' is not one of holdout, test"):
        make_task(SPACE, digits, validate_on="train")
    with pytest.raises(ArgumentError, match="seed -1 is negative"):
        make_task(SPACE, digits, seed=-1)
    with pytest.raises(ArgumentError, match="takes"):
        make_task("resnet", digits)


def test_streams_of_a_seed_differ_and_repeat(digits):
    task = make_task(SPACE, digits, seed=3)
    draws = [task.rng(stream).integers(2**60) for stream in (0, 1, 0)]
    assert task.rng(0, 1).integers(2**60) not in draws
    assert draws[0] == draws[2] != draws[1]
    seeds = [task.generator(stream).initial_seed() for stream in (0, 1, 0)]
    assert seeds[0] == seeds[2] != seeds[1]


# -- built-in methods -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "epochs"),
    [("autoslim", 6), ("bcnet", 10), ("bcnet_v2", 14), ("fair", 6), ("mask_gumbel", 20), ("uniform", 12)],
)
def test_training_raises_the_accuracy_of_wide_and_narrow_sub_networks(name, epochs, digits):
    notes = []
    task = make_task(
        SPACE, digits, recipe=supernet_recipe(SPACE, epochs), on_epoch=lambda *arguments: notes.append(arguments)
    )
    scores = get_method(name).fit(task).score(np.array([(4,) * 7, (2,) * 7], np.int8))
    assert scores.min() > 25  # chance is 10
    assert [note[:2] for note in notes] == [(epoch, epochs) for epoch in range(1, epochs + 1)]
    losses = [float(note[2].removeprefix("loss ")) for note in notes]
    assert losses[-1] < losses[0] - 0.2


class RecordingNet:
    """Stands in for the supernet: notes which architectures a step runs, on fixed logits."""

    def __init__(self):
        self.archs = []
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 10))

    def __call__(self, images, arch):
        self.archs.append(tuple(arch))
        return self.weight * sum(arch) / 28 + torch.zeros(len(images), 10)

    def parameters(self):
        return [self.weight]


def steps_of(monkeypatch, module, method, task, num_steps):
    """Run a method's step function on a RecordingNet; gradient of the last step and all architectures."""
    net = RecordingNet()
    gradients = []

    def train(task, supernet, step):
        for number in range(num_steps):
            net.weight.grad = None
            rng = task.rng(training.WIDTHS, number)
            step(training.Batch(number, 0, 0.0, torch.zeros(5, 1, 8, 8), torch.arange(5), rng))
            gradients.append(net.weight.grad.clone())
        return {}

    monkeypatch.setattr(module, "make_supernet", lambda task: net)
    monkeypatch.setattr(module, "train_supernet", train)
    monkeypatch.setattr(module, "SupernetEvaluator", lambda *arguments, **options: None)
    method.fit(task)
    return net, gradients


@pytest.mark.parametrize(("temperature", "distill"), [(1.0, True), (3.0, True), (1.0, False)])
def test_autoslim_follows_the_sandwich_rule_and_sums_gradients(monkeypatch, digits, temperature, distill):
    method = autoslim.AutoSlim(temperature=temperature, distill=distill)
    net, gradients = steps_of(monkeypatch, autoslim, method, short_task(digits), 3)
    assert len(net.archs) == 12
    assert net.archs[0::4] == [(4,) * 7] * 3 and net.archs[1::4] == [(1,) * 7] * 3
    assert len(set(net.archs[2::4] + net.archs[3::4])) > 1
    labels = torch.arange(5)
    reference = RecordingNet()
    widest = reference(torch.zeros(5, 1), net.archs[8])
    loss = functional.cross_entropy(widest, labels)
    target = (widest.detach() / temperature).softmax(1)
    for arch in net.archs[9:12]:
        logits = reference(torch.zeros(5, 1), arch)
        if distill:
            loss = loss + functional.kl_div((logits / temperature).log_softmax(1), target, reduction="batchmean")
        else:
            loss = loss + functional.cross_entropy(logits, labels)
    loss.backward()
    assert torch.allclose(gradients[2], reference.weight.grad, atol=1e-6)


def test_autoslim_with_two_subnets_runs_the_widest_and_the_narrowest(monkeypatch, digits):
    net, _ = steps_of(monkeypatch, autoslim, autoslim.AutoSlim(num_subnets=2), short_task(digits), 1)
    assert net.archs == [(4,) * 7, (1,) * 7]
    for options in ({"num_subnets": 1}, {"temperature": 0}, {"temperature": float("inf")}):
        with pytest.raises(ArgumentError, match="allowed are") as caught:
            get_method("autoslim", **options)
        assert "\n" not in str(caught.value)


def test_a_supernet_that_diverges_is_an_error_and_not_a_ranking(digits):
    task = make_task(SPACE, digits, recipe=get_recipe(supernet_recipe(SPACE, 2), lr=1e30))
    with pytest.raises(MethodError, match="loss became (nan|inf) in epoch"):
        get_method("uniform").fit(task)


def test_the_optimiser_takes_one_step_per_batch_by_the_schedule(digits):
    task = make_task(SPACE, digits, recipe=get_recipe(supernet_recipe(SPACE, 2), batch_size=300, momentum=0.0))
    net = make_supernet(task)
    before = net.classifier_bias.detach().clone()

    def step(batch):
        net.classifier_bias.grad = torch.ones_like(before)
        return torch.zeros(())

    train_supernet(task, net, step)
    moved = sum(task.recipe.lr_at(epoch + batch / 3) for epoch in range(2) for batch in range(3))
    assert torch.allclose(before - net.classifier_bias, torch.full_like(before, moved))


# -- registry and contract --------------------------------------------------------------------------------------


def test_methods_are_found_by_name_and_refuse_unknown_options():
    assert {info.name for info in list_methods()} >= set(BUILT_IN)
    assert [info.name for info in list_methods() if not (info.paper and info.summary)] == []
    with pytest.raises(UnknownNameError, match="did you mean 'autoslim'"):
        get_method("autoslm")
    with pytest.raises(ArgumentError, match="method 'uniform' has no option 'num_subnets': it has none"):
        get_method("uniform", num_subnets=3)
    for option, value in (("num_subnets", "many"), ("num_subnets", 3.0), ("distill", "off"), ("temperature", True)):
        with pytest.raises(
            ArgumentError, match=f"option '{option}' of method 'autoslim' is .*allowed are values of type"
        ):
            get_method("autoslim", **{option: value})
    assert get_method("autoslim", temperature=3).temperature == 3


def test_a_name_cannot_be_taken_twice():
    with pytest.raises(ArgumentError, match="'autoslim' is taken by harness.methods.autoslim"):

        @register("autoslim", paper="x", summary="x")
        class Other:
            pass


def test_a_method_of_another_package_is_found_by_its_entry_point(tmp_path, monkeypatch, digits):
    (tmp_path / "far_away.py").write_text(
        "import numpy as np\n"
        "class Widest:\n"
        "    '''Ranks by the sum of digits.'''\n"
        "    def fit(self, task):\n"
        "        return self\n"
        "    def score(self, archs):\n"
        "        return archs.sum(1).astype(float)\n"
    )
    info = tmp_path / "far_away-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[channel_bench.methods]\nwidest = far_away:Widest\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(method_module.METHODS, "_known", Isolated(method_module.METHODS))
    found = {entry.name: entry for entry in list_methods()}["widest"]
    assert found.summary == "Ranks by the sum of digits."
    scores = rank("widest", get_method("widest"), short_task(digits))
    assert scores.values.tolist() == SPACE.archs().sum(1).tolist()
    assert scores.facts["dataset"] == "digits" and scores.facts["recipe"]["epochs"] == 1
    (info / "entry_points.txt").write_text("[channel_bench.methods]\nbroken = far_away:Nothing\n")
    with pytest.raises(MethodError, match=r"installed method 'broken' \(far_away:Nothing\) cannot be imported"):
        get_method("broken")
    # One broken package spoils neither the list nor the others.
    listed = {entry.name: entry.summary for entry in list_methods()}
    assert "cannot be used: installed method 'broken'" in listed["broken"] and "autoslim" in listed
    get_method("uniform")
    (info / "entry_points.txt").write_text("[channel_bench.methods]\nuniform = far_away:Widest\n")
    assert "belongs to a built-in method" in {e.name: e.summary for e in list_methods()}["uniform (far_away:Widest)"]
    assert type(get_method("uniform")) is uniform.Uniform


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda archs: np.ones(3), r"float64 of shape \(3,\): it must return float64 of shape \(1024,\)"),
        (lambda archs: np.ones((len(archs), 1)), "must return float64 of shape"),
        (lambda archs: np.ones(len(archs), int), "returned int64"),
        (lambda archs: np.full(len(archs), np.nan), "returned nan for architecture 1111111"),
        (lambda archs: None, "returned object"),
    ],
)
def test_an_evaluator_that_breaks_the_contract_is_told_how(result, message, digits):
    class Evaluator:
        score = staticmethod(result)

    with pytest.raises(MethodError, match=message):
        score_all(Evaluator(), short_task(digits))


# -- losses of training -----------------------------------------------------------------------------------------

SAMPLERS = {"autoslim": 2, "bcnet": 1, "bcnet_v2": 1, "fair": 4, "uniform": 1, "uniform+log": 1}
"""Methods that draw widths in training, and how many architectures a step records."""


@pytest.mark.processes
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_prior_of_the_search_works_with_every_method_that_draws_widths(name, digits):
    evaluator = get_method(name).fit(short_task(digits))
    archs, losses = evaluator.training_losses()
    assert archs.shape == (3 * SAMPLERS[name], 7) and losses.mean() == pytest.approx(1)
    budget = Budget("flops", SPACE.flops(), 0.5 * SPACE.flops("4444444"))
    chosen = get_searcher("evolutionary", initial="prior", population=5, generations=1)
    found = search(SPACE, evaluator, budget, np.random.default_rng(0), chosen)
    assert SPACE.flops(found.arch) <= budget.limit and found.num_queries == 5


def test_a_method_that_draws_no_widths_says_so(digits):
    for name in ("tas", "mask_gumbel", "tas+log"):
        with pytest.raises(
            MethodError, match=r"recorded no losses of architectures: .* call batch.record\(arch, loss\)"
        ):
            get_method(name).fit(short_task(digits)).training_losses()
    with pytest.raises(MethodError, match=r"FUREvaluator has no function training_losses\(\)"):
        get_method("fur+log").fit(short_task(digits)).training_losses()


def test_an_additive_fit_knows_the_effects_of_its_slots(digits):
    evaluator = get_method("uniform+onehot", samples=200).fit(short_task(digits))
    archs = SPACE.sample(50, np.random.default_rng(0)).astype(np.int8)
    scores = evaluator.score(archs)
    sums = evaluator.slot_effects()[np.arange(7), archs.astype(int) - 1].sum(1)
    assert sums - sums.mean() == pytest.approx(scores - scores.mean(), abs=1e-9)


@pytest.mark.parametrize("distill", [True, False])
def test_autoslim_records_the_random_students_with_their_losses_on_the_labels(monkeypatch, digits, distill):
    batches, forward = [], Supernet.forward

    def watch(net, images, arch, *arguments, **options):
        logits = forward(net, images, arch, *arguments, **options)
        batches.append((tuple(arch), logits.detach()))
        return logits

    monkeypatch.setattr(Supernet, "forward", watch)
    labels, train = [], autoslim.train_supernet
    monkeypatch.setattr(
        autoslim,
        "train_supernet",
        lambda task, net, step: train(task, net, lambda batch: labels.append(batch.labels) or step(batch)),
    )
    evaluator = get_method("autoslim", distill=distill).fit(short_task(digits))
    ran = [batches[first : first + 4] for first in range(0, 12, 4)]
    archs, losses = evaluator.training_losses()
    assert [tuple(arch) for arch in archs.tolist()] == [arch for step in ran for arch, _ in step[2:]]
    expected = [
        functional.cross_entropy(logits, true).item()
        for step, true in zip(ran, labels, strict=True)
        for _, logits in step[2:]
    ]
    assert losses == pytest.approx(np.array(expected) / np.mean(expected), rel=1e-6)


@pytest.mark.parametrize("name", ["autoslim", "bcnet", "bcnet_v2", "fair", "uniform"])
def test_records_neither_change_a_score_nor_wait_for_the_device_in_a_step(name, digits, monkeypatch):
    archs = SPACE.sample(30, np.random.default_rng(0)).astype(np.int8)
    waits = []
    for function in ("item", "cpu", "tolist", "numpy", "__float__", "__bool__"):
        original = getattr(torch.Tensor, function)
        monkeypatch.setattr(
            torch.Tensor, function, lambda *given, of=original, **named: waits.append(1) or of(*given, **named)
        )
    counts, scores = [], None
    for batch_size in (96, 32):  # 2 or 6 steps
        task = short_task(digits)
        waits.clear()
        evaluator = get_method(name).fit(
            dataclasses.replace(task, recipe=get_recipe(task.recipe, batch_size=batch_size))
        )
        counts.append(len(waits))
        scores = evaluator.score(archs)
    assert counts[0] == counts[1]
    monkeypatch.setattr(training.Batch, "record", lambda batch, arch, loss: None)
    assert (
        get_method(name).fit(dataclasses.replace(task, recipe=get_recipe(task.recipe, batch_size=32))).score(archs)
        == scores
    ).all()
