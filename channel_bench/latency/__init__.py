"""Measure a device layer by layer, and predict the latency of every architecture from that.

    >>> from channel_bench.latency import load_latency
    >>> load_latency("latency.json").predict("4344424")    # ms

`model` holds and predicts and needs no PyTorch; `measure` decides what is timed; `stopwatch` times it in PyTorch.
"""

from __future__ import annotations

from channel_bench.latency.model import Agreement, Check, Conditions, LatencyModel, load_latency

__all__ = ["Agreement", "Check", "Conditions", "LatencyModel", "load_latency"]
