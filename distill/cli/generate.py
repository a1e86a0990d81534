"""`distill generate`."""

from distill.generate.write import generate


def show(result: object) -> None:
    """Nothing yet."""


FUNCTION = generate
