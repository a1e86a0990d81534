"""What the rooms of this package hand each other: a batch, what a teacher or a student says about it, a ranking, an error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


class BadInput(Exception):
    """Input the user can mend: one line that names the file, the line or key, and the fix. The command line exits with code 2."""

    def __init__(self, message: str):
        # files may hold anything, and what they hold is quoted
        super().__init__(message if len(message) <= 2000 else f"{message[:1000]} ... {message[-900:]}")


class Movable:
    """What goes to a device with its parts; `..._rows` stay on the host, where they index memory-mapped files."""

    def to(self, device: torch.device, **kwargs) -> Self:
        parts = {name: part for name, part in vars(self).items() if hasattr(part, "to") and not name.endswith("_rows")}
        return replace(self, **{name: part.to(device, **kwargs) for name, part in parts.items()})  # type: ignore[type-var]


@dataclass(frozen=True)
class Tokens(Movable):
    """Token ids of a batch of texts and the mask of the real ones."""

    input_ids: Tensor  # [B, L] int64
    attention_mask: Tensor  # [B, L] int64, 1 on real tokens
    padded: bool = True  # whether there may be others; known where a batch is made, so that no device has to be asked


@dataclass(frozen=True)
class Batch(Movable):
    """Queries of one training step and the candidates they are scored against, by row of the teacher's store."""

    queries: Tokens
    query_rows: Tensor  # [B] int64, number of each query among all queries of its loader
    document_rows: Tensor  # [B, K] int64, rows of the document store; K = 0 when only queries are matched
    documents: Any = None  # Chunks of Tokens [B * K], for a student that embeds documents itself
    relevant_rows: Tensor | None = None  # [B, J] int64, documents judged relevant to each query, -1 beyond them


@dataclass(frozen=True)
class Encoded:
    """What a teacher or a student says about a batch; teachers and students return the same type."""

    query: Tensor  # [B, D]     one vector per query; from a cross encoder [B, K, D], one beside each candidate
    document: Tensor  # [B, K, D]  candidates, column 0 the positive where there is one; K = 0 when only queries are matched
    scores: Tensor  # [B, K]     each query against its own K candidates
    document_rows: Tensor  # [B, K]     ids of the candidates: the same document twice in a batch is not its own negative
    relevant_rows: Tensor | None = None  # [B, J] ids of all that is judged relevant to a query, -1 beyond: none is its negative


@dataclass(frozen=True)
class Ranking:
    """A ranking: for each query the rows of its documents, best first."""

    query_ids: list[str]
    rows: np.ndarray  # [Q, k] int64, row of the corpus; -1 where fewer than k documents exist
    scores: np.ndarray  # [Q, k] float32, not increasing along a row
    name: str = field(default="run")
