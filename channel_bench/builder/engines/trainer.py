"""What every worker does with a stack of jobs, whatever process it lives in: train, make durable, answer.

An answer is the fields of an `Outcome` but its job, as values of JSON.
"""

from __future__ import annotations

import importlib
import platform
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import torch

from channel_bench.builder.store import RunStore
from channel_bench.errors import ChannelBenchError
from channel_bench.recipe import Recipe
from channel_bench.record import Job
from channel_bench.space import Space
from channel_bench.training.datasets import Dataset

TRACE_LINES = 12


class JobTrainer:
    """Trains jobs of one kind.

    Args:
        space: The search space.
        recipe: How to train.
        dataset: Images, on the device to train on.
        store: Where finished runs go; None to answer with the records instead, as JSON under "record".
        function: What trains, as "module:function"; called with (space, jobs, recipe, dataset, **options).
        options: Its further keywords.
    """

    def __init__(
        self,
        space: Space,
        recipe: Recipe,
        dataset: Dataset,
        store: RunStore | None,
        function: str,
        options: dict[str, Any],
    ) -> None:
        """Import the function."""
        module, _, name = function.partition(":")
        self._train = getattr(importlib.import_module(module), name)
        self._kind = (space, recipe, dataset)
        self._store = store
        self._options = options

    def answer(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Train a stack; an answer per job, whatever happens."""
        space, recipe, dataset = self._kind
        try:
            answers = {}
            for record in self._train(space, jobs, recipe, dataset, **self._options):
                answer = {"status": record.status, "best_test_acc": record.best_test_acc}
                if self._store is None:
                    answer["record"] = record.to_json()
                else:
                    self._store.add(record)
                answers[record.arch, record.run] = answer
            return [answers[job.arch, job.run] for job in jobs]
        except ChannelBenchError as error:  # says itself what is wrong, and will be as wrong the next time
            return [_failure(str(error), "", retry=False)] * len(jobs)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return [_failure(_words(error), _last_lines(), retry=True)] * len(jobs)


def _failure(error: str, trace: str, retry: bool) -> dict[str, Any]:
    return {"status": "failed", "error": error, "trace": trace, "host": platform.node(), "retry": retry}


def _words(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    # On a CPU PyTorch says it with a plain RuntimeError.
    is_memory = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "allocate memory" in str(error)
    return f"out of memory: {text}" if is_memory else text


def _last_lines() -> str:
    return "\n".join(traceback.format_exc().splitlines()[-TRACE_LINES:])
