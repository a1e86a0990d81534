"""Makes the charts of a report, for one run or for several runs that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from distill.evaluation.fields import OVERLAP, STUDENT, TEACHER
from distill.evaluation.results import COLUMNS
from distill.evaluation.suite_results import read_kept
from distill.metrics.retention import Interval
from distill.records import BadInput
from distill.report.charts import Chart, Point, Series, bar_chart, interval_chart, line_chart, make_point, number_charts, scatter_chart
from distill.report.evidence import RunEvidence
from distill.report.query_results import QueryResults, split_into_bins

MOST_POINTS = 400  # largest number of points of a curve that a screen can show
HEADINGS = {name: heading for name, (heading, _) in COLUMNS.items()} | {OVERLAP: OVERLAP}
KEPT_ON_DEV = "Kept on dev"
# metrics by the title of their chart; for one run there is also a chart of all loss terms, for several runs only of their sum
RUN_CURVES = {
    "Agreement with the teacher on dev": ["dev/overlap@10", "dev/abroad_overlap@10", "dev/mean_overlap@10", "dev/cosine"],
    KEPT_ON_DEV: [
        *(f"dev/retention_{metric}" for metric in ("ndcg@10", "mrr@10", "recall@100")),
        *(f"dev/{part}_retention_ndcg@10" for part in ("abroad", "mean")),
    ],
}
COMPARISON_CURVES = {
    "Loss": ["train/loss"],
    "Agreement with the teacher on dev": ["dev/overlap@10"],
    KEPT_ON_DEV: ["dev/retention_ndcg@10"],
}
BOUND_CURVES = {
    "Terms of the bound on the gap": [
        f"theory/{name}" for name in ("r_emb_q", "r_emb_q_train", "r_emb_d_train", "teacher_deviation", "gap")
    ]
}
# by field of a system: title of the chart, label of the axis, unit
LATENCY = "query_latency_ms_p50"
COSTS = {
    LATENCY: ("What is kept at which latency", "ms a query, half take longer", 1.0),
    "params": ("What is kept at which size", "million parameters", 1e6),
}


def run_charts(run: RunEvidence) -> list[Chart]:
    """Makes the charts of one run: retention by group of queries, each query, curves, costs."""
    charts: list[Chart] = []
    if run.queries is not None:
        charts += _chart_groups(run, run.queries)
        charts += _chart_queries(run.queries)
    charts += _chart_abroad(run)
    if run.cosines is not None:
        charts.append(_chart_alignment(run.cosines))
    return number_charts([*charts, *_chart_run_curves(run), *_chart_costs(run)])


def comparison_charts(runs: Sequence[RunEvidence]) -> list[Chart]:
    """Makes the charts of several runs on the same queries: retention by latency and size, and curves of the training."""
    costs = [_chart_retention_by_cost(runs, field) for field in COSTS]
    return number_charts([*costs, *_chart_curves_of_several(runs)])


def dominates(other: Sequence[float], one: Sequence[float]) -> bool:
    """Tells whether the (cost, quality) of `other` is at least as good as that of `one` in both, and better in one of them.

    >>> dominates((1, 0.9), (2, 0.9)), dominates((1, 0.9), (2, 0.95))
    (True, False)
    """
    return other[0] <= one[0] and other[1] >= one[1] and tuple(other) != tuple(one)


def _chart_groups(run: RunEvidence, queries: QueryResults) -> Iterator[Chart]:
    """Charts retention by length of the query, by the teacher's margin, and by dataset."""
    title = f"Kept {HEADINGS[queries.metric]}"
    lengths = _measure_groups(queries, split_into_bins(queries.word_counts, whole=True))
    yield interval_chart(f"{title} by query length", "words in the query", lengths)
    margins = _measure_groups(queries, split_into_bins(queries.margins))
    yield interval_chart(f"{title} by the teacher's margin", "first score less the second", margins)
    splits = _measure_groups(queries, ((name, np.array(queries.splits) == name) for name in dict.fromkeys(queries.splits)))
    others = [
        (f"{other.values['dataset']} (n={other.values.get('judged_queries', other.values['queries'])})", other.retention[queries.metric])
        for other in run.other_results
        if queries.metric in other.retention
    ]
    yield interval_chart(f"{title} by dataset", "", [*splits, *others])


def _measure_groups(queries: QueryResults, groups: Iterable[tuple[str, np.ndarray]]) -> list[tuple[str, Interval]]:
    """Measures the retention of each group; returns it with a label. Groups on which the teacher's metric is 0 are left out."""
    measured = []
    for label, members in groups:
        try:
            measured.append((f"{label} (n={int(members.sum())})", queries.measure_retention(members)))
        except BadInput:
            continue
    return measured


def _chart_abroad(run: RunEvidence) -> Iterator[Chart]:
    """Charts what is kept at home and on each collection of other domains, and by length of the query abroad."""
    suite = run.results.suite
    if suite is None:
        return
    title = f"Kept {HEADINGS[suite.main_metric]}"
    home = [(f"home, {run.results.values['dataset']}", run.results.main_retention)] if suite.main_metric in run.results.retention else []
    collections = [(f"{name} (n={part['judged_queries']})", read_kept(part)) for name, part in suite.collections.items()]
    yield interval_chart(f"{title} at home and abroad", "", [*home, ("abroad, mean", suite.main_retention), *collections])
    lengths = [
        (f"{name} (n={group['judged_queries']})", read_kept(group))
        for name, group in suite.values["lengths"].items()
        if suite.main_metric in group["retention"]
    ]
    yield interval_chart(f"{title} abroad by query length", "words in the query", lengths)


def _chart_queries(queries: QueryResults) -> Iterator[Chart]:
    """Charts every query as a point, teacher against student."""
    if queries.metric not in queries.values.get(TEACHER, {}):
        return
    teacher = queries.values[TEACHER][queries.metric].round(4).tolist()
    student = queries.values[STUDENT][queries.metric].round(4).tolist()
    points = [make_point(x, y, text[:80]) for x, y, text in zip(teacher, student, queries.texts, strict=True)]
    title, note = f"{HEADINGS[queries.metric]} of every query", "Below the line the teacher is better."
    yield scatter_chart(title, TEACHER, STUDENT, [{"name": "a query", "points": points}], diagonal=True, note=note)


def _chart_alignment(cosines: np.ndarray) -> Chart:
    counts, edges = np.histogram(cosines, bins=30)
    note = f"Cosine of the student's vector to the teacher's, mean {cosines.mean():.3f}, lowest {cosines.min():.3f}."
    bars = [(f"{edge:.3f}", count) for edge, count in zip(edges[:-1], counts.tolist(), strict=True)]
    return bar_chart("Alignment", "cosine from", "queries", bars, "queries", note)


def _chart_costs(run: RunEvidence) -> Iterator[Chart]:
    """Charts latency and size of every system."""
    latency_unit, size_unit = "ms, half take longer", "million parameters"
    yield bar_chart("Latency of one query", "", latency_unit, list(run.latencies.items()), latency_unit)
    sizes = [(name, system["params"] / 1e6) for name, system in run.results.systems.items() if "params" in system]
    yield bar_chart("Size", "", size_unit, sizes, size_unit)


def _chart_retention_by_cost(runs: Sequence[RunEvidence], field: str) -> Chart:
    """Charts the retention of each run by its cost; a line joins the runs that no other run dominates, the Pareto front."""
    title, axis, unit = COSTS[field]
    metric = runs[0].results.main_metric
    exported = [run.exported_latency for run in runs] if field == LATENCY else []
    is_exported = bool(exported) and None not in exported  # else one would be served otherwise than another
    fields = exported if is_exported else [run.results.systems[STUDENT].get(field) for run in runs]
    costs = [(cost, read_retention(run, metric).value, run.name) for cost, run in zip(fields, runs, strict=True)]
    known = sorted((cost / unit, value, name) for cost, value, name in costs if cost is not None)
    front: list[Point] = []
    dominated: list[Point] = []
    for cost, value, name in known:
        is_dominated = any(dominates(other[:2], (cost, value)) for other in known)
        points = dominated if is_dominated else front
        points.append(make_point(cost, value, name))
    series: list[Series] = [{"name": "Pareto front", "joined": True, "points": front}]
    if dominated:
        series.append({"name": "not on the front", "points": dominated})
    if is_exported:
        axis = f"{axis}; students exported"
    teacher_cost = runs[0].results.systems[TEACHER].get(field)
    if teacher_cost is not None:
        series.append({"name": "teacher", "points": [make_point(teacher_cost / unit, 1, "teacher")]})
    return scatter_chart(title, axis, f"kept {HEADINGS[metric]}", series, share=True)


def read_retention(run: RunEvidence, metric: str) -> Interval:
    """Returns the student's retention of a metric; for unjudged queries the overlap.

    Raises BadInput where it was not measured, as for a run that was evaluated before its queries were judged.
    """
    if metric in run.results.retention:
        return run.results.retention[metric]
    if metric != run.results.main_metric:
        raise BadInput(f"{run.name}: has no {HEADINGS[metric]}, which the others are compared by: evaluate it again")
    return run.results.main_retention


def _chart_run_curves(run: RunEvidence) -> Iterator[Chart]:
    """Charts loss terms, dev metrics and the terms of the bound over the steps."""
    for title, names in {"Loss": _list_loss_terms(run), **RUN_CURVES, **BOUND_CURVES}.items():
        series = [_make_curve(run, name, label=name.partition("/")[2]) for name in names]
        yield from _chart_curves(title, series)


def _chart_curves_of_several(runs: Sequence[RunEvidence]) -> Iterator[Chart]:
    for title, names in {**COMPARISON_CURVES, **BOUND_CURVES}.items():
        series = [_make_curve(run, name, label=run.name) for run in runs for name in names]
        yield from _chart_curves(title, series)


def _chart_curves(title: str, series: list[Series]) -> Iterator[Chart]:
    series = [curve for curve in series if curve["points"]]
    if series:
        yield line_chart(title, "step", series, share=title == KEPT_ON_DEV)


def _make_curve(run: RunEvidence, name: str, label: str) -> Series:
    """Makes a curve of the finite values of a metric over the steps, with about MOST_POINTS points at most."""
    points = [make_point(line["step"] + 1, line[name]) for line in run.curves if np.isfinite(line.get(name, np.nan))]
    return {"name": label, "points": points[:: max(1, len(points) // MOST_POINTS)]}


def _list_loss_terms(run: RunEvidence) -> list[str]:
    """Lists the loss terms and their weighted sum; a single term is left out, as it equals the sum up to its weight."""
    names = dict.fromkeys(name for line in run.curves for name in line)
    terms = [name for name in names if name.startswith("train/")]
    return terms if len(terms) > 2 else ["train/loss"]
