"""How much of the teacher a student keeps, and how sure that is: resampling over queries."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from distill.records import BadInput

DRAWS_PER_CHUNK = 1 << 22  # 32 MB of resampled values at a time


class Interval(NamedTuple):
    """A value and the ends of its 95% interval."""

    value: float
    low: float
    high: float


def bootstrap_ratio(student: ArrayLike, teacher: ArrayLike, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Ratio of mean `student` [Q] to mean `teacher` [Q] with its expanded percentile interval.

    Paired: each resample draws the same queries for both, so what makes a query hard for both does not widen the interval. Resamples
    in which the teacher scores nothing have no ratio and are left out. Raises BadInput when the teacher's mean is 0.
    """
    values = _per_query(student, teacher)
    if values[1].mean() == 0:
        raise BadInput("the teacher scores 0 on every query: nothing to retain; do the judgements belong to these queries and documents?")
    sums = _resampled_sums(values, resamples, seed)
    ratios = sums[0, sums[1] != 0] / sums[1, sums[1] != 0]
    return _interval(values[0].mean() / values[1].mean(), ratios, values.shape[1])


def bootstrap_mean(values: ArrayLike, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean of `values` [Q] with its expanded percentile interval."""
    per_query = _per_query(values)
    queries = per_query.shape[1]
    return _interval(per_query.mean(), _resampled_sums(per_query, resamples, seed)[0] / queries, queries)


def randomisation_test(one: ArrayLike, other: ArrayLike, permutations: int = 10_000, seed: int = 0) -> float:
    """How often chance alone sets the means of two systems [Q] as far apart as they are: p, two-sided, never 0.

    Fisher's paired test (Smucker et al., CIKM 2007): if the systems were alike, which of them got which of a query's two values would
    be a coin's choice.
    """
    values = _per_query(one, other)
    differences, generator = values[0] - values[1], np.random.default_rng(seed)
    observed, at_a_time, as_far = abs(differences.sum()), max(1, DRAWS_PER_CHUNK // len(differences)), 0
    for done in range(0, permutations, at_a_time):
        flipped = generator.integers(2, size=(min(at_a_time, permutations - done), len(differences)), dtype=np.int8)
        sums = differences.sum() - 2 * (flipped @ differences)
        as_far += int((np.abs(sums) >= observed - 1e-12 * len(differences)).sum())  # the same sum in another order
    return (1 + as_far) / (1 + permutations)


def _per_query(*values: ArrayLike) -> np.ndarray:
    """[S, Q] float64, one row for each system."""
    systems = [np.asarray(value, dtype=np.float64) for value in values]
    sizes = [len(system) for system in systems]
    if min(sizes) == 0 or len(set(sizes)) > 1:
        raise BadInput(f"values of {' and '.join(map(str, sizes))} queries: give one value a query, of the same queries for both")
    return np.stack(systems)


def _resampled_sums(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """[S, resamples]: sums over queries drawn with replacement, the same queries for every row of `values` [S, Q]."""
    generator, queries = np.random.default_rng(seed), values.shape[1]
    at_a_time = max(1, DRAWS_PER_CHUNK // queries)
    chunks = []
    for done in range(0, resamples, at_a_time):
        drawn = generator.integers(queries, size=(min(at_a_time, resamples - done), queries), dtype=np.int32)
        chunks.append(np.stack([system[drawn].sum(1) for system in values]))
    return np.concatenate(chunks, axis=1)


def _interval(value: float, resampled: np.ndarray, queries: int) -> Interval:
    """Of few queries the ends lie further out than the 2.5th and 97.5th percentile (Hesterberg, The American Statistician 2015, 4.2):
    resampled means are spread by sqrt((Q - 1) / Q) less than means are, and as the normal distribution, not as Student's t.
    """
    normal, freedom = NormalDist(), max(1, queries - 1)
    z = normal.inv_cdf(0.975)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)  # to three digits from 8 queries on
    tail = 100 * normal.cdf(-t * math.sqrt(1 + 1 / freedom))
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(float(value), float(low), float(high))
