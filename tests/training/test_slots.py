"""Runs that take turns in one process are those that are trained alone, and none is far ahead of the device."""

import contextlib
import dataclasses
import types

import pytest
import torch

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.training import slots
from channel_bench.training.run import train_packed, train_run
from channel_bench.training.slots import MAX_AHEAD, Slot, advance_ready, until_done
from channel_bench.training.step import Trainer

SPACE = cb.get_space("resnet-mini")
JOBS = [Job("2341234", 0, 0), Job("1111111", 0, 0), Job("1111111", 1, 1)]


@pytest.mark.parametrize(("num_slots", "precision"), [(1, "fp32"), (2, "fp32"), (5, "fp32"), (2, "bf16")])
def test_packed_runs_are_those_trained_alone(digits, monkeypatch, num_slots, precision):
    recipe = get_recipe("mini", batch_size=300, epochs=2, precision=precision)
    turns = []
    original = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, size: turns.append(id(self)) or original(self, size))
    packed = list(train_packed(SPACE, JOBS, recipe, digits, num_slots))
    assert len(set(turns[: min(num_slots, 3)])) == min(num_slots, 3)
    monkeypatch.undo()
    assert {(record.arch, record.run) for record in packed} == {(job.arch, job.run) for job in JOBS}
    for record in packed:
        alone = train_run(SPACE, record.arch, recipe, record.seed, digits, run=record.run)
        assert dataclasses.replace(record, train_s=0) == dataclasses.replace(alone, train_s=0)


def test_a_run_that_diverges_makes_room_for_the_next(digits):
    recipe = get_recipe("mini", lr=1e6, epochs=3, batch_size=600)
    records = list(train_packed(SPACE, JOBS, recipe, digits, 2))
    assert [record.status for record in records] == ["diverged"] * 3


def test_what_cannot_be_trained_is_refused(digits):
    with pytest.raises(ArgumentError, match="number of slots is 0"):
        next(train_packed(SPACE, JOBS, get_recipe("mini"), digits, 0))
    with pytest.raises(ArgumentError, match="CUDA graph"):
        next(train_packed(SPACE, JOBS, get_recipe("mini"), digits, 2, graph=True))


class Event:
    def __init__(self):
        self.is_done = False

    def query(self):
        return self.is_done


def test_a_slot_is_only_some_steps_ahead_of_the_device(monkeypatch):
    events = []
    stream = types.SimpleNamespace(
        record_event=lambda: events.append(Event()) or events[-1], wait_stream=lambda other: None
    )
    monkeypatch.setattr(slots, "own_stream", lambda owner, device: stream)
    entered = []
    for name, stand_in in {
        "device": lambda device: entered_context(),
        "stream": lambda other: entered.append(other) or entered_context(),
        "current_stream": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    slot = Slot(torch.device("cuda", 0))
    steps = []

    def steps_of_a_run():
        for number in range(100):
            steps.append(number)
            yield
        return "record"

    slot.start(steps_of_a_run())
    while advance_ready([slot]):
        pass
    assert len(steps) == MAX_AHEAD and set(map(id, entered)) == {id(stream)}
    events[0].is_done = True
    assert advance_ready([slot]) and not advance_ready([slot])
    for event in events:
        event.is_done = True
    assert slot.is_ready and slot.record is None
    waiting = until_done(stream)
    next(waiting), next(waiting)
    events[-1].is_done = True
    assert list(waiting) == []


def entered_context():
    return contextlib.nullcontext()


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [False, True])
def test_on_a_gpu_packed_runs_are_those_trained_alone(digits, graph):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data, recipe = digits.to("cuda"), get_recipe("mini", epochs=2)
    packed = {(record.arch, record.run): record for record in train_packed(SPACE, JOBS, recipe, data, 2, graph=graph)}
    for job in JOBS:
        alone = train_run(SPACE, job.arch, recipe, job.seed, data, run=job.run, graph=graph)
        assert dataclasses.replace(packed[job.arch, job.run], train_s=0) == dataclasses.replace(alone, train_s=0)
