"""Makes the tables of a report: quality and cost of one run, or a comparison of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.evaluation.fields import OVERLAP, STUDENT, TEACHER
from distill.evaluation.results import COLUMNS
from distill.metrics.retention import Interval, bootstrap_mean, bootstrap_ratio, randomisation_test
from distill.report.evidence import RunEvidence
from distill.report.figures import HEADINGS, read_retention
from distill.report.query_results import RESAMPLES

Cell = tuple[str, str]  # a value, and an addition in small letters
Table = dict[str, Any]  # keys of the page's template: title, heads, rows of cells, note
NOTHING = ("-", "")


def quality_table(run: RunEvidence) -> Table:
    """Makes a table with a row for each metric: each system with its interval, the student's retention, and p of the difference."""
    systems, agreement = run.results.systems, run.results.agreement
    metrics = [name for name in systems[TEACHER] if name in HEADINGS and "@" in name]
    note = (
        f"Brackets: 95% intervals over queries; what is kept is paired. p: randomisation test of student against teacher. On "
        f"{agreement['queries']} {agreement['split']} queries: overlap@10 {agreement[OVERLAP]:.3f}, cosine {agreement['cosine']:.3f}."
    )
    rows = [_make_quality_row(run, metric) for metric in metrics]
    return {"title": "Quality", "heads": ["", *systems, "kept", "p"], "rows": rows, "note": note}


def _make_quality_row(run: RunEvidence, metric: str) -> list[Cell]:
    queries, retention = run.queries, run.results.retention
    cells: list[Cell] = [(HEADINGS[metric], "")]
    for name, system in run.results.systems.items():
        value = "-" if metric not in system else f"{system[metric]:.4f}"
        interval = ""
        if queries is not None:
            _, low, high = bootstrap_mean(queries.values[name][metric], RESAMPLES)
            interval = f"[{low:.3f}, {high:.3f}]"
        cells.append((value, interval))
    kept = NOTHING
    if metric in retention:
        kept = (" ".join(_format_percent(retention[metric])), "")
    p = NOTHING
    if queries is not None:
        student, teacher = queries.values[STUDENT][metric], queries.values[TEACHER][metric]
        p = (f"{randomisation_test(student, teacher):.4f}", "")
    return [*cells, kept, p]


def cost_table(run: RunEvidence, hour_price: float | None) -> Table:
    """Makes a table of the cost of a million queries, one after the other on one core of the machine of the evaluation.

    Args:
        run: run whose systems and exported models are listed.
        hour_price: price of an hour of the machine; None leaves the column out.
    """
    rows = []
    for name, milliseconds in run.latencies.items():
        hours = milliseconds / 3.6  # a million queries take 1000 s for each millisecond, and an hour has 3600 s
        cells = [(name, ""), (f"{milliseconds:.2f}", ""), (f"{hours:.2f}", "")]
        if hour_price is not None:
            cells.append((f"{hours * hour_price:.2f}", ""))
        rows.append(cells)
    heads = ["", "ms a query", "hours"] + ([] if hour_price is None else ["price"])
    machine = run.provenance.get("processor") or "the machine that was measured"
    cores = "one core" if run.is_on_one_core else "all cores"
    note = f"One after the other, from text to vector, on {cores} of {machine}; half of the queries take longer."
    return {"title": "Cost of a million queries", "heads": heads, "rows": rows, "note": note}


def comparison_table(runs: Sequence[RunEvidence]) -> Table:
    """Makes a table with a row for each run: its retention, its cost, and a comparison with the first run."""
    first = runs[0]
    metric = first.results.main_metric
    costs = ["parameters", "ms a query", "ms exported"]
    heads = ["run", f"kept {HEADINGS[metric]}", OVERLAP, *costs, f"kept by {first.name}, this run = 100%", "p"]
    exported = "Exported: by ONNX Runtime in fp32, or by NumPy, with the same vectors."
    note = f"Brackets: 95% intervals, paired over queries. {exported} p: randomisation test against {first.name}."
    return {"title": "Runs", "heads": heads, "rows": [_make_run_row(run, first, metric) for run in runs], "note": note}


def _make_run_row(run: RunEvidence, first: RunEvidence, metric: str) -> list[Cell]:
    student, kept = run.results.systems[STUDENT], read_retention(run, metric)
    value, interval = _format_percent(kept)
    return [
        (run.name, ""),
        (value, "" if kept.low == kept.high else interval),
        (f"{run.results.agreement[OVERLAP]:.3f}", ""),
        (_format_field(student, "params"), ""),
        (_format_field(student, "query_latency_ms_p50"), ""),
        NOTHING if run.exported_latency is None else (f"{run.exported_latency:.2f}", ""),
        *_compare_with_first(run, first, metric),
    ]


def _compare_with_first(run: RunEvidence, first: RunEvidence, metric: str) -> tuple[Cell, Cell]:
    """Returns the first run's quality as a share of this run's, and p of their difference; empty cells for the first run."""
    if run is first or run.queries is None or first.queries is None:
        return NOTHING, NOTHING
    own, reference = run.queries.values[STUDENT][metric], first.queries.values[STUDENT][metric]
    if not own.any():
        return NOTHING, NOTHING
    return (f"{bootstrap_ratio(reference, own).value:.1%}", ""), (f"{randomisation_test(own, reference):.4f}", "")


def _format_field(system: dict[str, float], field: str) -> str:
    return COLUMNS[field][1](system[field]) if field in system else "-"


def _format_percent(interval: Interval) -> tuple[str, str]:
    """Formats an interval as two texts, such as `97.3%` and `[95.9, 98.6]`."""
    return f"{interval.value:.1%}", f"[{interval.low * 100:.1f}, {interval.high * 100:.1f}]"
