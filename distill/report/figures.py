"""The charts of a report, as the page's script draws them: plain values under the names of their kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from distill.evaluation.results import COLUMNS, STUDENT, TEACHER
from distill.metrics.retention import Interval, bootstrap_mean, bootstrap_ratio
from distill.records import BadInput
from distill.report.evidence import JudgedRun, RunEvidence, split_into_bins

MOST_POINTS = 400  # of a curve: what a screen shows
NAMES = {name: heading for name, (heading, _) in COLUMNS.items()} | {"overlap@10": "overlap@10"}
Chart = dict[str, Any]


def run_charts(run: RunEvidence) -> list[Chart]:
    """Everything there is to see of one run."""
    made = [*_by_group(run), *_per_query(run), *curves([run]), *_costs(run)]
    return [{"id": f"chart{number}", "note": "", **chart} for number, chart in enumerate(made)]


def comparison_charts(runs: Sequence[RunEvidence], metric: str) -> list[Chart]:
    """Several runs on the same queries: what each keeps at which latency, and how they learnt."""
    measure_kept = [read_retention(run, metric).value for run in runs]
    made = list(curves(runs))
    for field, title, unit in (("params", "million parameters", 1e6), ("query_latency_ms_p50", "ms a query, half take longer", 1)):
        costs = [_cost(run, STUDENT, field, unit) for run in runs]
        known = [(cost, value, run.name) for cost, value, run in zip(costs, measure_kept, runs, strict=True) if cost is not None]
        front = {name for cost, value, name in known if not any(dominates(other, (cost, value)) for *other, _ in known)}
        points = [{"x": cost, "y": value, "label": name} for cost, value, name in sorted(known)]
        series = [{"name": "Pareto front", "joined": True, "points": [point for point in points if point["label"] in front]}]
        if beaten := [point for point in points if point["label"] not in front]:
            series.append({"name": "not on the front", "points": beaten})
        if (teacher := _cost(runs[0], TEACHER, field, unit)) is not None:
            series.append({"name": "teacher", "points": [{"x": teacher, "y": 1, "label": "teacher"}]})
        kind = {"kind": "scatter", "share": True, "x": title, "y": f"kept {NAMES[metric]}"}
        made.insert(0, {"title": f"What is kept at which {'size' if field == 'params' else 'latency'}", **kind, "series": series})
    return [{"id": f"chart{number}", "note": "", **chart} for number, chart in enumerate(made)]


def _cost(run: RunEvidence, system: str, field: str, unit: float) -> float | None:
    cost = run.results["systems"][system].get(field)
    return None if cost is None else cost / unit


def dominates(other: Sequence[float], one: Sequence[float]) -> bool:
    """Whether (cost, quality) of another is nowhere worse and somewhere better."""
    return other[0] <= one[0] and other[1] >= one[1] and tuple(other) != tuple(one)


def read_retention(run: RunEvidence, metric: str) -> Interval:
    """What the student keeps of a metric; of unjudged queries the overlap, which has no interval in the results."""
    if metric in run.results["retention"]:
        measure_kept = run.results["retention"][metric]
        return Interval(measure_kept["value"], *measure_kept["ci95"])
    value = run.results["agreement"]["overlap@10"]
    return Interval(value, value, value)


def measure_kept(queries: JudgedRun, members: np.ndarray) -> Interval:
    """What the student keeps of the teacher's quality on some of the queries; BadInput where the teacher has none."""
    student = queries.values[STUDENT][queries.metric][members]
    if queries.metric == "overlap@10":
        return bootstrap_mean(student, resamples=2000)
    return bootstrap_ratio(student, queries.values[TEACHER][queries.metric][members], resamples=2000)


def _by_group(run: RunEvidence) -> Iterator[Chart]:
    queries = run.queries
    if queries is None:
        return
    splits = [(name, np.array([split == name for split in queries.splits])) for name in dict.fromkeys(queries.splits)]
    groups = {
        "by query length": (list(split_into_bins(queries.words, whole=True)), "words in the query"),
        "by the teacher's margin": (list(split_into_bins(queries.margins)), "first score less the second"),
        "by dataset": (splits, ""),
    }
    for title, (parts, x) in groups.items():
        labels, intervals = [], []
        for label, members in parts:
            try:
                intervals.append(measure_kept(queries, members))
            except BadInput:
                continue  # nothing to keep there
            labels.append(f"{label} (n={int(members.sum())})")
        if title == "by dataset":
            for other in run.elsewhere:
                if queries.metric in other["retention"]:
                    found = other["retention"][queries.metric]
                    labels.append(f"{other['dataset']} (n={other['queries']})")
                    intervals.append(Interval(found["value"], *found["ci95"]))
        yield interval_chart(f"Kept {NAMES[queries.metric]} {title}", x, labels, intervals)


def interval_chart(title: str, x: str, labels: list[str], intervals: list[Interval]) -> Chart:
    values, ends = [found.value for found in intervals], [[found.low, found.high] for found in intervals]
    return {"title": title, "kind": "intervals", "share": True, "x": x, "y": "", "labels": labels, "values": values, "intervals": ends}


def _per_query(run: RunEvidence) -> Iterator[Chart]:
    queries = run.queries
    if queries is not None and queries.metric in queries.values.get(TEACHER, {}):
        pair = zip(*(queries.values[name][queries.metric].round(4).tolist() for name in (TEACHER, STUDENT)), queries.texts, strict=True)
        points = [{"x": x, "y": y, "label": text[:80]} for x, y, text in pair]
        title = f"{NAMES[queries.metric]} of every query"
        scatter = {"kind": "scatter", "diagonal": True, "x": TEACHER, "y": STUDENT, "series": [{"name": "a query", "points": points}]}
        yield {"title": title, "note": "Below the line the teacher is better.", **scatter}
    if run.cosines is not None:
        counts, edges = np.histogram(run.cosines, bins=30)
        note = f"Cosine of the student's vector to the teacher's, mean {run.cosines.mean():.3f}, lowest {run.cosines.min():.3f}."
        labels = [f"{edge:.3f}" for edge in edges[:-1]]
        series = [{"name": "queries", "values": counts.tolist()}]
        yield {"title": "Alignment", "note": note, "kind": "bars", "x": "cosine from", "y": "queries", "labels": labels, "series": series}


def curves(runs: Sequence[RunEvidence]) -> Iterator[Chart]:
    """Loss terms, and what dev says, over the steps; of several runs the totals alone."""
    one = len(runs) == 1
    shown = {
        "Loss": ("train/loss",) if not one else None,
        "Agreement with the teacher on dev": ("dev/overlap@10", "dev/cosine") if one else ("dev/overlap@10",),
        "Kept on dev": tuple(f"dev/retention_{name}" for name in (("ndcg@10", "mrr@10", "recall@100") if one else ("ndcg@10",))),
        "Terms of the bound on the gap": tuple(
            f"theory/{name}" for name in ("r_emb_q", "r_emb_q_train", "r_emb_d_train", "teacher_deviation", "gap")
        ),
    }
    for title, names in shown.items():
        series = []
        for run in runs:
            known = dict.fromkeys(name for line in run.curves for name in line)
            for name in names or _loss_terms(known):
                points = [{"x": line["step"] + 1, "y": line[name]} for line in run.curves if np.isfinite(line.get(name, np.nan))]
                if points:
                    label = name.partition("/")[2] if one else run.name
                    series.append({"name": label, "points": points[:: max(1, len(points) // MOST_POINTS)]})
        if series:
            yield {"title": title, "kind": "lines", "x": "step", "y": "", "share": title == "Kept on dev", "series": series}


def _loss_terms(names: Iterable[str]) -> list[str]:
    """The terms and their weighted sum; a single term is the sum already."""
    terms = [name for name in names if name.startswith("train/")]
    return terms if len(terms) > 2 else ["train/loss"]


def _costs(run: RunEvidence) -> Iterator[Chart]:
    systems = run.results["systems"]
    latency = {name: system["query_latency_ms_p50"] for name, system in systems.items() if "query_latency_ms_p50" in system}
    latency |= {f"{name}, 1 core": path["query_latency_ms_p50"] for name, path in run.serving["paths"].items()}
    sizes = {name: system["params"] / 1e6 for name, system in systems.items() if "params" in system}
    for title, y, found in (("Latency of one query", "ms, half take longer", latency), ("Size", "million parameters", sizes)):
        series = [{"name": y, "values": list(found.values())}]
        yield {"title": title, "kind": "bars", "x": "", "y": y, "labels": list(found), "series": series}
