"""`distill report`: one page of a run, or of several."""

from __future__ import annotations

from distill.cli.terminal import show_text
from distill.report.report import Report, report


def show(result: Report) -> None:
    show_text(result)


FUNCTION = report
