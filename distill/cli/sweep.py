"""`distill sweep`: many trainings of a sweep file, and a table of them."""

from __future__ import annotations

from distill.training.sweep import Sweep, sweep


def show(outcome: Sweep) -> None:
    print(f"{outcome}\n{outcome.path}")


FUNCTION = sweep
