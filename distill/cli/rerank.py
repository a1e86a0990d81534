"""`distill rerank`: another system's documents in a teacher's order."""

from __future__ import annotations

from distill.cli.terminal import show_text
from distill.evaluation.rerank import RerankResults, rerank


def show(results: RerankResults) -> None:
    show_text(f"\n{results}\n{results.path}")


FUNCTION = rerank
