"""How the optional parts of this package are installed, for messages where one is missing."""

from __future__ import annotations


def install_hint(*extras: str) -> str:
    """The fix that a message names where the packages of an extra are missing.

    The package index has another project of this package's name: what is installed is a checkout.

    >>> install_hint("hub")
    "pip install '.[hub]' in a checkout of distill"
    >>> install_hint("cpu", "gpu")
    "pip install '.[cpu]', or '.[gpu]', in a checkout of distill"
    """
    first, *others = [f"'.[{extra}]'" for extra in extras]
    alternatives = "".join(f", or {extra}," for extra in others)
    return f"pip install {first}{alternatives} in a checkout of distill"
