"""`distill encode`: a teacher's vectors of documents and queries, into a store."""

from distill.teachers.encode import encode


def show(store: object) -> None:
    """Nothing: progress and sizes are logged set by set."""


FUNCTION = encode
