"""`distill frontier`: which student to deploy."""

from __future__ import annotations

import json

from distill.cli.terminal import show_text
from distill.shrinking.comparison import Frontier
from distill.shrinking.frontier import REPORT, frontier


def show(outcome: Frontier) -> None:
    """Prints the table, the recommendation, and how to load the student."""
    show_text(f"\n{outcome}")
    show_text(f"\nreport: {outcome.path / REPORT}")
    show_text("to use the student:\n")
    show_text("    import distill")
    show_text(f"    student = distill.load_encoder({json.dumps(str(outcome.recommended.run / 'student'))})")


FUNCTION = frontier
