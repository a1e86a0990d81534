"""What every loss is: a weight and a function of two `Encoded`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from distill.records import Encoded


@dataclass
class Loss:
    """A term of the training objective; it owns no model, no projection and no gathering.

    Args:
        weight: factor of this term in the sum that is minimised.
        teacher: whom it learns from: a name in data.teachers, or ensemble; by default the teacher that made data.store.
    """

    weight: float = 1.0
    teacher: str | None = None

    min_candidates: ClassVar[int] = 0  # documents a query needs beside it, judged or the teacher's own
    needs_labels: ClassVar[bool] = False  # column 0 of the candidates must be a judged positive
    needs_document_tower: ClassVar[bool] = False  # the student must embed documents itself
    needs_vectors: ClassVar[bool] = False  # the teacher must have vectors, in the student's own space
    needs_queries_apart: ClassVar[bool] = False  # a query's vector must not depend on a document: no cross encoder's

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        """A scalar: the mean over the queries of the batch, before `weight`."""
        raise NotImplementedError


def batch_scores(encoded: Encoded) -> Tensor:
    """Every query against every candidate of the batch: [B, B * K]; query i's own candidates start at column i * K."""
    return encoded.query @ encoded.document.flatten(0, 1).T


def repeated(encoded: Encoded) -> Tensor:
    """True [B, B * K] where another query's column is one of this query's own candidates: not a negative, not counted twice."""
    rows = encoded.document_rows  # [B, K]
    batch, candidates = rows.shape
    same = (rows[:, :, None] == rows.flatten()[None, None, :]).any(dim=1)  # [B, B * K]
    owner = torch.arange(batch, device=rows.device).repeat_interleave(candidates)
    return same & (owner[None, :] != torch.arange(batch, device=rows.device)[:, None])
