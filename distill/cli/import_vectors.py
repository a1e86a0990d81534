"""`distill import`: vectors that already exist, into a store."""

from distill.vectors.import_vectors import import_vectors


def show(store: object) -> None:
    """Nothing: what was written is logged."""


FUNCTION = import_vectors
