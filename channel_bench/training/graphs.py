"""CUDA graphs: a sequence of calls recorded once and replayed, and the streams that they are recorded on.

    >>> recorder = Recorder(owner, device)
    >>> (graph,) = recorder.record([call])     # call() wrote its results into tensors made before
    >>> graph.replay()                         # the same kernels, on the same addresses, with one launch

A graph changes when kernels are launched, never what they compute.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

NUM_WARMUPS = 3
"""Calls before a capture, in which libraries allocate memory and choose algorithms; PyTorch's example takes three."""


class Recorder:
    """Records the calls of one owner, all on one stream and in memory that their graphs share.

    Graphs may share memory where they never run at the same time and pass each other nothing in it: what a call leaves
    behind has to lie in tensors that were made before, or to be held on to.

    Args:
        owner: Whose graphs they are; no other living owner uses the stream.
        device: A GPU.
        stream: One that is the owner's already; None for another.
    """

    def __init__(self, owner: object, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        """Take a stream."""
        gc.collect()  # an earlier owner that is part of a cycle would keep its memory, and its stream
        self._device = device
        self._pool: Any = None
        self.stream = stream or own_stream(owner, device)

    def record(
        self, calls: Sequence[Callable[[], None]], before: Callable[[], None] = lambda: None
    ) -> list[torch.cuda.CUDAGraph]:
        """A graph of each call.

        This follows "Whole-network capture" in PyTorch's notes on CUDA semantics: some calls on a side stream, then a
        capture on the same one, because gradients stay on the stream that they were first summed on.

        Args:
            calls: The one that needs most memory first: there is then room for the others. Each really runs
                NUM_WARMUPS times, so the caller puts back what that changes.
            before: Run before each call and before each capture.
        """
        graphs = []
        with torch.cuda.device(self._device):
            # The side stream starts after all earlier work, and what follows starts after the side stream.
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for call in calls:
                    for _ in range(NUM_WARMUPS):
                        before()
                        call()
            torch.cuda.current_stream().wait_stream(self.stream)
            for call in calls:
                before()
                graphs.append(capture(call, self._pool, self.stream))
                self._pool = graphs[-1].pool()
        return graphs


def capture(call: Callable[[], None], pool: Any, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """A graph of what a call launches; nothing of it runs."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        call()
    return graph


_FREE_STREAMS: dict[torch.device, list[torch.cuda.Stream]] = {}
"""Streams of owners that are gone."""


def own_stream(owner: object, device: torch.device) -> torch.cuda.Stream:
    """A stream that no other living owner uses.

    A graph that is freed may take along what libraries keep for the stream that it was captured on, so no two living
    graphs of different owners share one. A dead owner's stream is lent again, because freed memory is kept by
    stream.
    """
    free = _FREE_STREAMS.setdefault(device, [])
    stream = free.pop() if free else torch.cuda.Stream(device)
    weakref.finalize(owner, free.append, stream).atexit = False
    return stream
