"""How long one query takes, as a user waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from distill.encoders.encoder import Encoder

ServingPath = Callable[[str], np.ndarray]  # from a query's text to its vector [1, D]


def pytorch_path(encoder: Encoder) -> ServingPath:
    """PyTorch as it is, on the device the encoder is on."""
    return lambda text: encoder.encode([text], "query").cpu().numpy()


def measure_query_latency(
    paths: Mapping[str, ServingPath], queries: Sequence[str], rounds: int = 200, warm_up: int = 10
) -> dict[str, dict[str, float]]:
    """Latency at batch 1 of each path, tokenizer included, as results name it: milliseconds that half, or 5%, of the queries exceed.

    The paths take turns on every query, so that a noisy machine disturbs them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(warm_up + rounds):
        for name, path in paths.items():
            start = time.perf_counter()
            path(queries[turn % len(queries)])
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    milliseconds = {name: (1000 * np.percentile(times, [50, 95])).round(3).tolist() for name, times in seconds.items()}
    return {name: {"query_latency_ms_p50": p50, "query_latency_ms_p95": p95} for name, (p50, p95) in milliseconds.items()}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on so many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
