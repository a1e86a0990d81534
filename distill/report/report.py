"""`report`: writes one page about how much of the teacher's quality a student keeps, where it loses, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.evaluation.results import describe_queries
from distill.files.atomic import refuse_unreadable, write_atomically
from distill.records import BadInput
from distill.report.evidence import RunEvidence
from distill.report.figures import comparison_charts, read_retention, run_charts
from distill.report.losers import losers_and_winners
from distill.report.origin import describe_origin
from distill.report.page import render_page
from distill.report.tables import comparison_table, cost_table, quality_table


@dataclass(frozen=True)
class Report:
    """A report page."""

    path: Path
    verdict: str  # `two keeps 97.3% [95.9, 98.6] of nDCG@10 at 1/4 of the latency`; for several runs the verdict of the best

    def __str__(self) -> str:
        return f"{self.verdict}\n{self.path}"


def report(runs: list[str], out: str | None = None, hour_price: float | None = None, trust: bool = False) -> Report:
    """Writes one HTML file that describes a run or compares several; it can be opened from disk without a network.

    Args:
        runs: run folders that `distill evaluate` has measured.
        out: file to write; by default report.html in the run folder, or for several runs in the current folder.
        hour_price: price of an hour of the machine of the evaluation, for the cost of a million queries.
        trust: whether their files may name code of other packages, which is then imported, and sources that do more than read files; not
            for folders from somebody else.

    Raises:
        BadInput: a run is not evaluated, or was evaluated on other queries than the first run.
    """
    if hour_price is not None and len(runs) > 1:
        raise BadInput("hour_price: costs are on the page of a single run: name one")
    return write_report(runs, out, hour_price, trust)


def write_report(
    runs: Sequence[str], out: str | None = None, hour_price: float | None = None, trust: bool = False, verdict: str | None = None
) -> Report:
    """Writes the page of `report`; `verdict` heads it in the place of what the run, or the best of several, keeps."""
    with refuse_unreadable("run folders that distill evaluate has measured", ", ".join(runs)):
        evidence = [RunEvidence(run, trust) for run in runs]
        if len({run.name for run in evidence}) < len(evidence):
            raise BadInput(f"runs: {', '.join(runs)}: two of them have the same name: rename a folder")
        content = _describe_run(evidence[0], hour_price, verdict) if len(evidence) == 1 else _compare_runs(evidence, verdict)
        page = render_page(**content, runs=[describe_origin(run) for run in evidence])
    folder = evidence[0].folder.path if len(evidence) == 1 else Path()
    path = folder / "report.html" if out is None else Path(out)
    with write_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return Report(path, content["verdict"])


def format_verdict(run: RunEvidence) -> str:
    """Formats the verdict of a run, beginning with its name."""
    return f"{run.name} {run.results.verdict}"


def _describe_run(run: RunEvidence, hour_price: float | None, verdict: str | None) -> dict[str, Any]:
    """Makes the content of a page about one run."""
    charts, ranked = run_charts(run), losers_and_winners(run)
    tables = [table for table in (quality_table(run), cost_table(run, hour_price)) if table["rows"]]
    return {
        "title": f"distill: {run.name}",
        "subtitle": f"{run.dataset}, {describe_queries(run.results.values)}",
        "verdict": verdict or format_verdict(run),
        "notes": [*run.warnings, *_describe_missing(run)],  # after charts and tables, which find out what is missing
        "tables": tables,
        "charts": charts,
        "ranked": ranked,
    }


def _compare_runs(runs: Sequence[RunEvidence], verdict: str | None) -> dict[str, Any]:
    """Makes the content of a page about several runs."""
    first = runs[0]
    for run in runs[1:]:
        _check_same_queries(run, first)
    best = max(runs, key=lambda run: read_retention(run, first.results.main_metric).value)
    table, charts = comparison_table(runs), comparison_charts(runs)
    warnings = [f"{run.name}: {warning}" for run in runs for warning in run.warnings]
    missing = [line for run in runs for line in _describe_missing(run)]
    return {
        "title": f"distill: {len(runs)} runs",
        "subtitle": f"{len(runs)} runs on {first.dataset}, {describe_queries(first.results.values)}",
        "verdict": verdict or format_verdict(best),
        "notes": warnings + missing,
        "tables": [table],
        "charts": charts,
        "ranked": None,
    }


def _check_same_queries(run: RunEvidence, first: RunEvidence) -> None:
    collection, earlier = (dataset.rpartition("/")[0] for dataset in (run.dataset, first.dataset))
    is_same_split = run.dataset == first.dataset or run.queries_fingerprint is not None  # a split may have another name in a later job
    if collection != earlier or not is_same_split or run.queries_fingerprint != first.queries_fingerprint:
        raise BadInput(f"{run.folder.path}: measured on other queries than {first.folder.path}: run distill evaluate on the same split")


def _describe_missing(run: RunEvidence) -> list[str]:
    return [f"Left out, as it could not be read: {reason}" for reason in run.missing]
