"""What a plan may be told beside teacher, documents, queries and GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distill.records import BadInput
from distill.shrinking.request import STATIC, is_size
from distill.vectors.faiss_index import Kind

DOCUMENT_TOKENS, QUERY_TOKENS = 84, 9  # of MS MARCO's passages and queries
MINUTES = 10.0  # as shrink trains


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What `plan` may be told of the training, the texts and the machine.

    Args:
        size: number of the teacher's layers that the student keeps, 2 by default; static for a table of its tokens.
        minutes: time to train for, 10 by default.
        epochs: of training, in place of minutes.
        candidates: number of documents that each training query is scored against.
        batch_size: queries of a step on each GPU; by default as shrink has it.
        backbone: encoder that the student begins from where the teacher is not to be cut.
        index: also plan a faiss index of the documents: flat, ivf or hnsw.
        rates: JSON file of what a GPU does in a second, as experiments/speed/gpu.py writes it there.
        document_tokens: length of the documents, where only their number is given.
        query_tokens: length of the queries, where only their number is given.
        trust_remote_code: whether Python code that the teacher's folder brings with it may run; read it before.
    """

    size: int | Literal["static"] | None = None
    minutes: float | None = None
    epochs: int | None = None
    candidates: int = 0
    batch_size: int | None = None
    backbone: str | None = None
    index: Kind | None = None
    rates: str | None = None
    document_tokens: int = DOCUMENT_TOKENS
    query_tokens: int = QUERY_TOKENS
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not (is_size(self.size) and self.size != "auto"):
            raise BadInput(f"size: {self.size!r}: the number of layers to keep, 1 or more, or {STATIC} for a table of tokens")
        if self.minutes is not None and self.epochs is not None:
            raise BadInput("minutes: the length of the training is that of --epochs: leave one out")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise BadInput(f"minutes: {self.minutes}: minutes of training, above 0")
        for name in ("epochs", "batch_size", "document_tokens", "query_tokens"):
            refuse_below(1, name, getattr(self, name))
        refuse_below(0, "candidates", self.candidates)


def refuse_below(least: int, name: str, value: int | None) -> None:
    """Refuses a number that is too small.

    >>> refuse_below(1, "gpus", 0)
    Traceback (most recent call last):
    distill.records.BadInput: gpus: 0: must be 1 or more
    """
    if value is not None and value < least:
        raise BadInput(f"{name}: {value}: must be {least} or more")
