"""What every loss is: a weight and a function of two `Encoded`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from distill.records import Encoded

COSINE_TEMPERATURE, LOGIT_TEMPERATURE = 0.05, 1.0  # temperatures, see `scale`; a loss that nothing suits takes the first


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
    takes_candidates: ClassVar[bool] = False  # reads documents where there are some, without needing any

    def with_default_temperature(self, temperature: float, teacher_temperature: float | None) -> Loss:
        """This loss with what suits the scores of the student and of its teacher (None: the same) where no temperature was given."""
        return self

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        """A scalar: the mean over the queries of the batch, before `weight`."""
        raise NotImplementedError


def default_temperature(cosines: bool) -> float:
    """The temperature that suits scores: vectors of length 1 make cosines, longer ones, and cross encoders, what is as large as logits."""
    return COSINE_TEMPERATURE if cosines else LOGIT_TEMPERATURE


def batch_scores(encoded: Encoded) -> Tensor:
    """Every query against every candidate of the batch: [B, B * K]; query i's own candidates start at column i * K."""
    return encoded.query @ encoded.document.flatten(0, 1).T


def false_negative_mask(encoded: Encoded) -> Tensor:
    """True [B, B * K] at columns that are no negative of a query: what is judged relevant to it, and its own candidates once more.

    Never at the first of its own candidates, the answer.
    """
    rows = encoded.document_rows  # [B, K]
    batch, candidates = rows.shape
    owner, query = torch.arange(rows.numel(), device=rows.device) // candidates, torch.arange(batch, device=rows.device)
    found = membership_mask(rows, rows.flatten()) & (owner[None, :] != query[:, None])
    if encoded.relevant_rows is not None:
        found |= membership_mask(encoded.relevant_rows, rows.flatten())
    found[query, query * candidates] = False
    return found


def membership_mask(rows: Tensor, columns: Tensor) -> Tensor:
    """True [B, C] where a query's `rows` [B, J] have the document of `columns` [C]; -1 is none."""
    documents, column = columns.unique(return_inverse=True)  # [U], [C]
    place = torch.searchsorted(documents, rows.contiguous()).clamp(max=len(documents) - 1)
    place = torch.where(documents[place] == rows, place, len(documents))  # what no column has is written beyond them
    found = torch.zeros(len(rows), len(documents) + 1, dtype=torch.bool, device=rows.device)
    return found.scatter_(1, place, True)[:, column]
