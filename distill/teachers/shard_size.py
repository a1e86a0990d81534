"""How many texts a shard of a new store holds, so that a kill loses half a minute of a teacher's work at most."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from distill.files.sampling import evenly_spaced_rows

SECONDS_PER_SHARD = 20.0  # less than 30, as the texts of a shard may be longer than those that were measured
# far apart, so that a rate that is measured a little differently gives the same size, and the same vectors to the last bit
SHARD_SIZES = (64, 512, 4096)
SAMPLES = (2, 8, 32, 128, 512)  # texts that are embedded to measure the rate, one sample after the other until it is known
FEWEST_TEXTS = 8  # with fewer a rate above what is needed may be chance
ENOUGH_SECONDS = 1.0  # a sample that takes so long is large enough
TEXTS_FOR_ONE = 50  # a sample has at most one of 50 texts, as it is embedded again with its shard


def choose_rows_per_shard(embed: Callable[[np.ndarray], int], count: int, largest: int) -> int:
    """Chooses the texts of a shard by the teacher's rate, which is measured on a few of them.

    Args:
        embed: embeds the texts in some rows.
        count: number of all texts.
        largest: texts of a shard of a fast teacher.

    Returns:
        `largest`, or for a slow teacher 4096, 512 or 64 texts, whatever it embeds in 20 seconds; at least 64.
    """
    needed = min(largest, count)
    if needed <= SHARD_SIZES[0]:
        return largest
    return rows_for_rate(measure_rate(embed, count, needed / SECONDS_PER_SHARD), count, largest)


def rows_for_rate(rate: float, count: int, largest: int) -> int:
    """Chooses the texts of a shard of `count` texts by the texts that are embedded in a second.

    >>> rows_for_rate(1000, 5000, largest=8192), rows_for_rate(100, 5000, largest=8192)
    (8192, 512)
    """
    rows = SECONDS_PER_SHARD * rate
    if rows >= min(largest, count):
        return largest
    return max((size for size in SHARD_SIZES if size <= rows), default=SHARD_SIZES[0])


def measure_rate(embed: Callable[[np.ndarray], int], count: int, fast_enough: float) -> float:
    """Measures how many texts are embedded in a second; where there are more than `fast_enough`, only that it is so.

    `embed` returns how many texts it embedded: those of a server are known after the first time, and cost nothing then.
    """
    embed(evenly_spaced_rows(count, SAMPLES[0]))  # the first call is slower: kernels are loaded, a connection is opened
    most = max(SAMPLES[0], count // TEXTS_FOR_ONE)
    rate = 0.0
    for size in SAMPLES:
        if size > most:
            break
        start = time.perf_counter()
        embedded = embed(evenly_spaced_rows(count, size))
        seconds = time.perf_counter() - start
        if not embedded:  # all of them were known from the sample before
            continue
        rate = embedded / max(seconds, 1e-9)
        if seconds >= ENOUGH_SECONDS or (size >= FEWEST_TEXTS and rate >= fast_enough):
            break
    return rate or fast_enough  # where nothing could be measured, the texts are few
