"""`distill generate`: more queries to match on, made of real ones or of documents."""

from __future__ import annotations

from distill.generate.generate import generate
from distill.generate.join import GeneratedQueries, describe_dropped


def show(result: GeneratedQueries | None) -> None:
    if result is None or result.existed:  # another rank tells it, or the log did
        return
    print(f"{result.path}: {result.count} queries; dropped: {describe_dropped(result.dropped)}")
    for name, values in result.diversity.items():
        print(f"  {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in values.items()))


FUNCTION = generate
