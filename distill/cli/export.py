"""`distill export`."""

from distill.export.export import export


def show(result: object) -> None:
    """Nothing yet."""


FUNCTION = export
