"""What a student keeps of queries of each length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from distill.evaluation.fields import MAIN_METRIC, OVERLAP, OVERLAP_INTERVAL, STUDENT, TEACHER
from distill.evaluation.measured_queries import MeasuredQueries
from distill.metrics.retention import Interval, bootstrap_mean, bootstrap_ratio

GROUP_ENDS = (8, 16, 32, 64)  # groups of 1-8, 9-16, 17-32, 33-64, and of 65 words or more
RESAMPLES = 2_000  # a group is one row of a table, not the verdict
FEWEST = 20  # judged queries that a group needs to be named in a sentence
MUCH_LESS = 0.05  # of retention, below that of all queries


def split_by_length(words: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name of each group of lengths that has queries, and which queries [Q] are in it.

    >>> [(name, members.tolist()) for name, members in split_by_length(np.array([3, 70, 8]))]
    [('1-8', [True, False, True]), ('65+', [False, True, False])]
    """
    group = np.searchsorted(GROUP_ENDS, words)  # [Q]
    starts = [1, *(end + 1 for end in GROUP_ENDS)]
    names = [f"{start}-{end}" for start, end in zip(starts, GROUP_ENDS, strict=False)] + [f"{starts[-1]}+"]
    for number, name in enumerate(names):
        members = group == number
        if members.any():
            yield name, members


def measure_lengths(measured: Sequence[MeasuredQueries]) -> dict[str, dict[str, Any]]:
    """Measures agreement and retention of each group of lengths, with 95% intervals over its queries, each query counting alike.

    Args:
        measured: what was measured on each collection.

    Returns:
        by group: `queries`, `judged_queries`, `overlap@10` and its interval, and `retention` as in results.json, of metrics on which the
        teacher scores.
    """
    words = np.concatenate([part.word_counts for part in measured])
    overlaps = np.concatenate([part.overlaps for part in measured])
    judged = np.concatenate([part.word_counts[part.judged] for part in measured])  # words of each judged query
    metrics = set.intersection(*({*part.values[TEACHER]} for part in measured))
    student, teacher = (
        {metric: np.concatenate([part.values[system][metric] for part in measured]) for metric in sorted(metrics)}
        for system in (STUDENT, TEACHER)
    )
    group_of_judged = dict(split_by_length(judged))
    groups = {}
    for name, members in split_by_length(words):
        overlap = bootstrap_mean(overlaps[members], RESAMPLES)
        chosen = group_of_judged.get(name, np.zeros(len(judged), bool))
        retention = {
            metric: describe(bootstrap_ratio(values[chosen], teacher[metric][chosen], RESAMPLES))
            for metric, values in student.items()
            if teacher[metric][chosen].any()
        }
        counts = {"queries": int(members.sum()), "judged_queries": int(chosen.sum())}
        groups[name] = {**counts, **describe_overlap(overlap), "retention": retention}
    return groups


def describe(interval: Interval) -> dict[str, Any]:
    """The fields of results.json for a value with its interval."""
    return {"value": interval.value, "ci95": [interval.low, interval.high]}


def describe_overlap(overlap: Interval) -> dict[str, Any]:
    """The fields of results.json for an agreement with its interval."""
    return {OVERLAP: overlap.value, OVERLAP_INTERVAL: [overlap.low, overlap.high]}


def format_lengths(lengths: Mapping[str, dict[str, Any]]) -> list[str]:
    """What is kept of nDCG@10 of each group of 20 judged queries or more in a sentence; no sentence where there are not two of them.

    >>> groups = {"1-8": {"judged_queries": 90, "retention": {"ndcg@10": {"value": 0.98}}}}
    >>> groups["65+"] = {"judged_queries": 30, "retention": {"ndcg@10": {"value": 0.8}}}
    >>> format_lengths(groups)
    ['kept of nDCG@10 by words in the query: 98.0% of 1-8, 80.0% of 65+']
    """
    known = {name: group for name, group in lengths.items() if group["judged_queries"] >= FEWEST}
    kept = {name: group["retention"][MAIN_METRIC]["value"] for name, group in known.items() if MAIN_METRIC in group["retention"]}
    if len(kept) < 2:
        return []
    return ["kept of nDCG@10 by words in the query: " + ", ".join(f"{value:.1%} of {name}" for name, value in kept.items())]


def find_worst_length(lengths: Mapping[str, dict[str, Any]], kept: float) -> tuple[str, float] | None:
    """Returns the group of lengths of which least is kept, and that share, where it is much less than what is `kept` of all; else None.

    >>> groups = {"1-8": {"judged_queries": 90, "retention": {"ndcg@10": {"value": 0.98, "ci95": [0.96, 1.0]}}}}
    >>> groups["33-64"] = {"judged_queries": 30, "retention": {"ndcg@10": {"value": 0.8, "ci95": [0.7, 0.9]}}}
    >>> find_worst_length(groups, kept=0.96)
    ('33-64', 0.8)
    """
    judged = {name: group["retention"][MAIN_METRIC] for name, group in lengths.items() if MAIN_METRIC in group["retention"]}
    if len(judged) < 2:
        return None
    least = {}
    for name, retention in judged.items():
        is_less = retention["value"] < kept - MUCH_LESS and retention["ci95"][1] < kept  # not by chance
        if is_less and lengths[name]["judged_queries"] >= FEWEST:
            least[name] = retention["value"]
    if not least:
        return None
    worst = min(least, key=lambda name: least[name])
    return worst, least[worst]
