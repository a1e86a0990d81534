"""`distill report`: one page of a run, or of several."""

from __future__ import annotations

from distill.report.report import Report, report


def show(result: Report) -> None:
    print(result)


FUNCTION = report
