"""`distill report`."""

from distill.report.report import report


def show(result: object) -> None:
    """Nothing yet."""


FUNCTION = report
