"""How much of the teacher's quality a student keeps, and how sure that is: resampling over queries, by scipy.

scipy takes half a second to import, so the functions that need it import it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from distill.records import BadInput

NOTHING_TO_RETAIN = (
    "the teacher scores 0 on every query, so there is nothing to retain: do the judgments belong to these queries and documents, "
    "and does a grade say that one is relevant?"
)
VALUES_AT_ONCE = 1 << 22  # resampled values in memory at once: 32 MB of float64


class Interval(NamedTuple):
    """A value and the ends of its 95% interval.

    >>> retention = Interval(0.971, 0.958, 0.984)
    >>> print(retention)
    97.1% [95.8%, 98.4%]
    >>> f"{retention:.3f}"
    '0.971 [0.958, 0.984]'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return format(self, ".1%")

    def __format__(self, spec: str) -> str:
        """Formats each of the three numbers by `spec`."""
        spec = spec or ".1%"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def bootstrap_ratio(student: ArrayLike, teacher: ArrayLike, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Ratio of the student's mean to the teacher's mean, with its expanded percentile interval.

    The bootstrap is paired: each resample takes the same queries for both, so what makes a query hard for both does not widen the
    interval. Resamples in which the teacher scores 0 have no ratio and are left out.

    Args:
        student: [Q] metric of each query.
        teacher: [Q] metric of the same queries.
        resamples: how many sets of Q queries are drawn with replacement.
        seed: of the draws.

    Raises:
        BadInput: the teacher's mean is 0, or the two are not of equally many queries.

    >>> bootstrap_ratio([0.4, 0.5, 0.0], [0.8, 1.0, 0.0])
    Interval(value=0.5, low=0.5, high=0.5)
    """
    values = _to_rows(student, teacher)
    if values[1].mean() == 0:
        raise BadInput(NOTHING_TO_RETAIN)
    return _bootstrap(values, _ratio_of_sums, resamples, seed)


def bootstrap_mean(values: ArrayLike, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean of `values` [Q], one a query, with its expanded percentile interval.

    >>> bootstrap_mean([0.0, 1.0])
    Interval(value=0.5, low=0.0, high=1.0)
    """
    return _bootstrap(_to_rows(values), np.mean, resamples, seed)


def bootstrap_of_means(collections: Sequence[ArrayLike], resamples: int = 10_000, seed: int = 0) -> Interval:
    """Mean over collections of the ratio of two systems, with its expanded percentile interval over collections and queries.

    Each collection counts alike. A resample draws collections, and for each of them queries, the same ones for both systems: the interval
    is about collections of this kind, not only about queries of these collections.

    Args:
        collections: for each collection [2, Q], the values of student and teacher on its Q queries.
        resamples: how many sets are drawn with replacement.
        seed: of the draws.

    Raises:
        BadInput: the teacher's mean is 0 on a collection.

    >>> bootstrap_of_means([[[1.0, 1.0], [2.0, 2.0]], [[3.0], [4.0]]], resamples=100).value
    0.625
    """
    generator = np.random.default_rng(seed)
    pairs = [_to_rows(*collection) for collection in map(np.asarray, collections)]
    if any(teacher.sum() == 0 for _, teacher in pairs):
        raise BadInput(NOTHING_TO_RETAIN)
    value = float(np.mean([student.sum() / teacher.sum() for student, teacher in pairs]))
    ratios = np.stack([_resample_ratios(pair, resamples, generator) for pair in pairs])  # [C, resamples]
    size = ratios.shape
    chosen = ratios[generator.integers(size[0], size=size), generator.integers(resamples, size=size)]
    chosen = chosen[:, ~np.isnan(chosen).all(axis=0)]  # draws of queries on which the teacher finds nothing have no ratio
    count = len(pairs) if len(pairs) > 1 else pairs[0].shape[1]  # of one collection only the queries vary
    return Interval(value, *_expanded_ends(np.nanmean(chosen, axis=0), count))


def _resample_ratios(pair: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """[resamples] ratios of the sums of two systems' values [2, Q] over queries that are drawn with replacement."""
    count = pair.shape[1]
    parts = []
    for start in range(0, resamples, _rows_at_once(count)):
        rows = min(_rows_at_once(count), resamples - start)
        drawn = pair[:, generator.integers(count, size=(rows, count))]  # [2, rows, Q]
        parts.append(_ratio_of_sums(drawn[0], drawn[1], axis=-1))
    return np.concatenate(parts)


def randomisation_test(one: ArrayLike, other: ArrayLike, permutations: int = 10_000, seed: int = 0) -> float:
    """Probability (p, two-sided, never 0) that chance alone sets the means of two systems as far apart as they are.

    Fisher's paired test (Smucker et al., CIKM 2007): if the systems were alike, a coin could decide which of them got which of the two
    values of a query.

    Args:
        one: [Q] metric of each query.
        other: [Q] metric of the same queries.
        permutations: how many times Q coins are thrown.
        seed: of the coins.

    >>> round(randomisation_test([1, 1, 1], [0, 0, 0]), 2)  # 2 of the 8 choices are as extreme
    0.25
    """
    from scipy import stats

    values = _to_rows(one, other)
    differences, generator = values[0] - values[1], np.random.default_rng(seed)

    def flip_signs(size: tuple[int, int]) -> np.ndarray:
        return np.where(generator.integers(2, size=size, dtype=np.int8), differences, -differences)

    def distance(samples: np.ndarray, axis: int) -> np.ndarray:
        # rounded, as the same differences in another order sum to another last digit
        return np.abs(samples.sum(axis)).round(10)

    # scipy's permutation_test does the same, but moves the values of each query by itself: six times slower
    test = stats.monte_carlo_test(
        differences,
        flip_signs,
        distance,
        vectorized=True,
        n_resamples=permutations,
        batch=_rows_at_once(len(differences)),
        alternative="greater",
    )
    return float(test.pvalue)


def _to_rows(*systems: ArrayLike) -> np.ndarray:
    """[S, Q] float64, one row a system; refuses systems with different numbers of queries."""
    rows = [np.asarray(values, dtype=np.float64) for values in systems]
    sizes = [len(values) for values in rows]
    if min(sizes) == 0 or len(set(sizes)) > 1:
        raise BadInput(f"values of {' and '.join(map(str, sizes))} queries: give one value a query, of the same queries for both")
    return np.stack(rows)


def _ratio_of_sums(student: np.ndarray, teacher: np.ndarray, axis: int) -> np.ndarray:
    """The student's sum over the teacher's; NaN where the teacher's is 0."""
    student_sum, teacher_sum = student.sum(axis), teacher.sum(axis)
    return np.divide(student_sum, teacher_sum, out=np.full_like(teacher_sum, np.nan), where=teacher_sum != 0)


def _bootstrap(values: np.ndarray, statistic: Callable[..., np.ndarray], resamples: int, seed: int) -> Interval:
    """A statistic of S systems' values [S, Q] and its expanded percentile interval; each resample takes the same queries for all."""
    from scipy import stats

    value = float(statistic(*values[:, None], axis=-1)[0])
    queries = values.shape[1]
    if queries == 1:
        return Interval(value, value, value)  # every resample is that one query
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # of scipy's own interval, which is not used here
        bootstrap = stats.bootstrap(
            values,
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=resamples,
            batch=_rows_at_once(queries),
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return Interval(value, *_expanded_ends(bootstrap.bootstrap_distribution, queries))


def _expanded_ends(resampled: np.ndarray, count: int) -> tuple[float, float]:
    """The ends of the 95% interval of resampled values, each of `count` draws; NaN among the values are left out.

    The percentile interval is too short for few draws: the spread of resampled means is too small by sqrt((n - 1) / n), and their tails
    are those of a normal distribution, not of Student's t. The ends are therefore taken further out than the 2.5th and the 97.5th
    percentile (Hesterberg, The American Statistician 2015, 4.2).
    """
    from scipy import stats

    tail = 2.5
    if count > 1:
        t = stats.t.ppf(0.975, count - 1)
        tail = 100 * stats.norm.cdf(-t * math.sqrt(count / (count - 1)))
    low, high = np.percentile(resampled[~np.isnan(resampled)], [tail, 100 - tail])
    return float(low), float(high)


def _rows_at_once(width: int) -> int:
    """How many rows of `width` values may be in memory at once."""
    return max(1, VALUES_AT_ONCE // width)
