"""`distill mine`: hard negatives from a teacher's store."""

from distill.teachers.mining import mine


def show(path: object) -> None:
    """Nothing: what was written is logged."""


FUNCTION = mine
