"""`distill plan`: what a job will take."""

from __future__ import annotations

from distill.cli.terminal import show_text
from distill.planning.plan import Plan, plan


def show(outcome: Plan) -> None:
    """Prints the table."""
    show_text(f"\n{outcome}")


FUNCTION = plan
