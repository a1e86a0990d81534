"""The Teacher protocol: a student can learn from any object that returns `Encoded` for a batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from distill.records import Batch, Encoded


class Teacher(Protocol):
    """Returns vectors and scores for the queries of a batch and their candidates. No gradient flows into a teacher.

    Any object with these attributes that can be called with a batch is a teacher. A class that a configuration names by `class_path`
    must inherit from this class. A teacher may have two more methods:

    - `connect(data: TextsByRow) -> None` is called once, before the first batch: `data` reads the texts behind the rows of a batch.
    - `fingerprint() -> str` must change when the teacher changes: a run is not continued with another teacher.

    Attributes:
        width: dimensions of its vectors; 0 for a teacher that has only scores.
        reads_pairs: whether its vector of a query depends on the document of the pair, as in a cross encoder.
        has_cosine_scores: whether its scores are about as large as cosines, and not as large as logits.

    Example:
        >>> class LengthTeacher(Teacher):
        ...     width, reads_pairs, has_cosine_scores = 0, False, False
        ...     def connect(self, data: TextsByRow) -> None:
        ...         self.data = data
        ...     def __call__(self, batch: Batch) -> Encoded:
        ...         lengths = [len(text) for text in self.data.document_texts(batch.document_rows.flatten())]
        ...         scores = torch.tensor(lengths).view(batch.document_rows.shape).float()  # [B, K]
        ...         no_vectors = scores.new_empty(len(scores), 0)
        ...         return Encoded(no_vectors, scores.new_empty(*scores.shape, 0), scores, batch.document_rows)
    """

    width: int
    reads_pairs: bool
    has_cosine_scores: bool

    def __call__(self, batch: Batch) -> Encoded:
        """Returns vectors and scores of the batch, float32, on the device of its tokens."""


class TextsByRow(Protocol):
    """Reads the texts behind the rows of a batch; `RetrievalData` does."""

    def query_texts(self, rows: np.ndarray | Tensor) -> list[str]:
        """Texts of the training queries in `rows` [n], as `Batch.query_rows` has them."""

    def document_texts(self, rows: np.ndarray | Tensor) -> list[str]:
        """Texts of the documents in `rows` [n], as `Batch.document_rows` has them."""


def score_candidates(query: Tensor, document: Tensor, document_rows: Tensor, relevant_rows: Tensor | None = None) -> Encoded:
    """Scores each query against its own candidates by inner products, in fp32 also under mixed precision.

    Args:
        query: [B, D] vectors.
        document: [B, K, D] vectors of the candidates.
        document_rows: [B, K] rows of the candidates.
        relevant_rows: [B, J] rows of all documents judged relevant to each query; rows of -1 are padding.

    >>> query, document = torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    >>> score_candidates(query, document, torch.tensor([[7, 8]])).scores
    tensor([[11.,  2.]])
    """
    # division by a small temperature would enlarge the rounding errors of bf16
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.einsum("bd,bkd->bk", query, document)
    return Encoded(query, document, scores, document_rows, relevant_rows)
