"""`distill generate`: more queries to match on, made of real ones or of documents."""

from __future__ import annotations

from distill.cli.terminal import show_text
from distill.generate.generate import generate
from distill.generate.join import GeneratedQueries, describe_dropped


def show(result: GeneratedQueries | None) -> None:
    if result is None or result.existed:  # another rank tells it, or the log did
        return
    show_text(f"{result.path}: {result.count} queries; dropped: {describe_dropped(result.dropped)}")
    for name, values in result.diversity.items():
        show_text(f"  {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in values.items()))


FUNCTION = generate
