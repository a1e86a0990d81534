"""The words of the verdict: `keeps 98.3% [96.1, 100.2] of nDCG@10 at 1/4 of the latency; abroad 95.1% [93.2, 96.9] of nDCG@10`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.evaluation.fields import MAIN_METRIC
from distill.evaluation.query_lengths import find_worst_length
from distill.metrics.retention import Interval


def write_verdict(
    metric: str, home: Interval, latency_ratio: float | None, lengths: Mapping[str, dict[str, Any]], abroad: Interval | None
) -> str:
    """The verdict on a student in one line.

    Args:
        metric: field of results.json that the verdict is about: nDCG@10, or overlap@10 where the teacher's nDCG@10 is unknown.
        home: what the student keeps of it on its own split.
        latency_ratio: the teacher's latency over the student's, where both were measured.
        lengths: the figures of each group of query lengths, as `measure_lengths` returns them: abroad, where a suite was measured.
        abroad: what the student keeps of nDCG@10 on the collections of a suite.

    >>> write_verdict("ndcg@10", Interval(0.983, 0.961, 1.002), 4.02, {}, Interval(0.951, 0.932, 0.969))
    'keeps 98.3% [96.1, 100.2] of nDCG@10 at 1/4 of the latency; abroad 95.1% [93.2, 96.9] of nDCG@10'
    """
    parts = [_describe_home(metric, home) + _describe_latency(latency_ratio)]
    if abroad is not None:
        return "; ".join([*parts, describe_abroad(abroad, lengths)])
    return "; ".join([*parts, *_describe_worst_length(lengths, home)])


def describe_abroad(kept: Interval, lengths: Mapping[str, dict[str, Any]]) -> str:
    """What a student keeps on collections of other domains, and on the lengths of queries on which it keeps much less."""
    return "; ".join([f"abroad {_describe_interval(kept)} of nDCG@10", *_describe_worst_length(lengths, kept)])


def _describe_worst_length(lengths: Mapping[str, dict[str, Any]], kept: Interval) -> list[str]:
    worst = find_worst_length(lengths, kept.value)
    return [] if worst is None else [f"{worst[1]:.1%} on queries of {worst[0]} words"]


def _describe_home(metric: str, kept: Interval) -> str:
    if metric == MAIN_METRIC:
        return f"keeps {_describe_interval(kept)} of nDCG@10"
    return f"finds {_describe_interval(kept)} of the teacher's top 10"


def _describe_latency(ratio: float | None) -> str:
    if ratio is None:
        return ""
    if ratio >= 1.05:
        return f" at 1/{_format_ratio(ratio)} of the latency"
    return f" at {_format_ratio(1 / ratio)} times the latency"


def _format_ratio(ratio: float) -> str:
    """
    >>> _format_ratio(2.34), _format_ratio(118.2)
    ('2.3', '118')
    """
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _describe_interval(kept: Interval) -> str:
    return f"{kept.value:.1%} [{kept.low * 100:.1f}, {kept.high * 100:.1f}]"
