"""Places for runs that are trained at once in one process, by taking turns step by step.

    >>> slots = [Slot(device), Slot(device)]
    >>> slots[0].start(run)        # a generator that pauses after each step and returns a record
    >>> advance_ready(slots)       # the next step of each

On a GPU each slot has a stream of its own, on which everything of its runs happens: images, captures, replays,
evaluation. Only one thread works, so no capture of one slot meets a call of another. A slot is a few steps ahead of the
device at most: a run of short steps then gets more turns than one of long steps, and neither waits for the other.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import torch

from channel_bench.record import RunRecord
from channel_bench.training.graphs import own_stream

MAX_AHEAD = 8
"""Steps of a slot that are handed to a GPU and not finished; enough that it never runs dry between two turns."""
POLL_S = 1e-4
"""How long the host sleeps when all slots are that far ahead."""

Run = Generator[None, None, RunRecord]


class Slot:
    """A place for one run after the other.

    Args:
        device: Where runs are trained.

    Attributes:
        stream: Of a GPU, for everything that its runs do; None on a CPU.
        record: Of the run that was started last; None until it is finished.
    """

    def __init__(self, device: torch.device) -> None:
        """Take a stream, which starts after all that was asked for before."""
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            with torch.cuda.device(device):
                self.stream = own_stream(self, device)
                self.stream.wait_stream(torch.cuda.current_stream())
        self.record: RunRecord | None = None
        self._run: Run | None = None
        self._unfinished: deque[Any] = deque()

    def start(self, run: Run) -> None:
        """Make a run the next to advance."""
        self.record, self._run = None, run

    @property
    def is_ready(self) -> bool:
        """Whether the run may take a step: it is not too far ahead of the device."""
        while self._unfinished and self._unfinished[0].query():
            self._unfinished.popleft()
        return len(self._unfinished) < MAX_AHEAD

    def advance(self) -> None:
        """Let the run go on to its next pause, or to its end."""
        assert self._run is not None
        with torch.cuda.stream(self.stream) if self.stream is not None else contextlib.nullcontext():
            try:
                next(self._run)
            except StopIteration as stop:
                self.record, self._run = stop.value, None
            if self.stream is not None:
                self._unfinished.append(self.stream.record_event())


def advance_ready(slots: Sequence[Slot]) -> bool:
    """Advance every slot that is ready; returns whether there was one."""
    ready = [slot for slot in slots if slot.is_ready]
    for slot in ready:
        slot.advance()
    return bool(ready)


def until_done(stream: torch.cuda.Stream | None) -> Generator[None, None, None]:
    """Pause until a stream has done all that it was given; not at all where there is no stream."""
    if stream is None:
        return
    event = stream.record_event()
    while not event.query():
        yield
