"""How long one query takes, as a user waits for it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from distill.encoders.encoder import Encoder


def query_latency_ms(encoders: Mapping[str, Encoder], queries: Sequence[str], rounds: int = 200, warm_up: int = 10) -> dict[str, float]:
    """Median milliseconds from text to vector at batch 1, for each encoder, on the device it is on.

    The encoders take turns on every query, so that a noisy machine disturbs them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    for turn in range(warm_up + rounds):
        for name, encoder in encoders.items():
            start = time.perf_counter()
            encoder.encode([queries[turn % len(queries)]], "query").cpu()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: round(float(np.median(times)) * 1000, 3) for name, times in seconds.items()}
