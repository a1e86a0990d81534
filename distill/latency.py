"""How long one query takes, as a user waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from distill.encoders.encoder import Encoder
from distill.encoders.onnx import OnnxEncoder

ServingPath = Callable[[str], np.ndarray]  # from a query's text to its vector [1, D]


@dataclass(frozen=True)
class Latency:
    """Milliseconds a query, tokenizer included: half of the queries take longer than `p50`, one in twenty longer than `p95`."""

    p50: float
    p95: float


def eager(encoder: Encoder) -> ServingPath:
    """PyTorch as it is, on the device the encoder is on."""
    return lambda text: encoder.encode([text], "query").cpu().numpy()


def onnx(encoder: OnnxEncoder) -> ServingPath:
    return lambda text: encoder.encode([text])


def query_latency_ms(paths: Mapping[str, ServingPath], queries: Sequence[str], rounds: int = 200, warm_up: int = 10) -> dict[str, Latency]:
    """Latency at batch 1 of each path.

    The paths take turns on every query, so that a noisy machine disturbs them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(warm_up + rounds):
        for name, path in paths.items():
            start = time.perf_counter()
            path(queries[turn % len(queries)])
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: _percentiles(times) for name, times in seconds.items()}


def _percentiles(seconds: Sequence[float]) -> Latency:
    p50, p95 = (round(float(milliseconds), 3) for milliseconds in np.percentile(seconds, [50, 95]) * 1000)
    return Latency(p50, p95)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on so many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
