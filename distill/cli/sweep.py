"""`distill sweep`: many trainings of a sweep file, and a table of them."""

from __future__ import annotations

from distill.cli.terminal import show_text
from distill.training.sweep import Sweep, sweep


def show(outcome: Sweep) -> int:
    show_text(f"{outcome}\n{outcome.path}")
    if any(trial.value is not None for trial in outcome.trials):
        return 0
    show_text(f"No training ended with a value of {outcome.metric}: each of them says above why, or logged none of that name")
    return 1


FUNCTION = sweep
