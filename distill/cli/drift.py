"""`distill drift`: whether today's queries still look like those that a student knows."""

from __future__ import annotations

from distill.cli.terminal import show_text
from distill.evaluation.drift import LEVEL, DriftReport
from distill.evaluation.drift import drift as compare_queries
from distill.records import BadInput


def drift(run: str, queries: str | None = None, out: str | None = None, level: float = LEVEL, trust: bool = False) -> DriftReport:
    """Compares today's queries with those that were held out of a student's training.

    The student embeds both; no teacher and no index is needed. Where today's queries are less like the training queries than chance
    explains, it says so: a finding, not an error, so the exit code is 0.

    Args:
        run: run folder, as `distill train` or `shrink` leaves it.
        queries: file of today's queries: .txt (one a line), .tsv, .csv, .jsonl or .parquet; log.csv:query names the field.
        out: JSON file to write the figures into.
        level: the test's false-alarm rate: the share of comparisons in which nothing has changed that may raise an alarm.
        trust: whether the run's files may name code of other packages, which is then imported, and sources that do more than read files;
            not for a folder from somebody else.
    """
    if queries is None:
        raise BadInput("queries must be given: name a file of today's queries, --queries today.txt")
    return compare_queries(run, queries, out, level, trust)


def show(report: DriftReport) -> None:
    show_text(report)


FUNCTION = drift
