"""Refuses arguments that make no sense in RetrievalData."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from distill.records import BadInput


def check_numbers(batch_size: int, candidates: int, dev_documents: int, match_documents: float | None, shares: Mapping[str, float]) -> None:
    """Refuses numbers out of range; the arguments are those of RetrievalData, `shares` by file."""
    if batch_size < 1 or candidates < 0 or dev_documents < 1:
        numbers = f"batch_size {batch_size} and dev_documents must be at least 1 and candidates {candidates} at least 0"
        raise BadInput(f"data: {numbers}")
    if match_documents is not None and not 0 <= match_documents < math.inf:
        raise BadInput(f"data.match_documents: {match_documents}: a share is 0 or more")
    if match_documents and candidates:
        raise BadInput("data.match_documents: documents that are learnt as queries are have no candidates: leave data.candidates out")
    for name, share in shares.items():
        if not 0 <= share < math.inf:
            raise BadInput(f"data.queries: {name}: {share}: a share is 0 or more")


def list_paths(paths: Iterable[str] | None, name: str) -> list[str]:
    """Lists paths, none by default; refuses a single one, whose letters would be taken for paths."""
    if isinstance(paths, str):
        raise BadInput(f"{name}: {paths}: one or more in a list: give [{paths!r}]")
    return list(paths or [])
