"""Losses that match the student's vectors to the teacher's; they need no labels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, LossInputs
from distill.records import Encoded

Distance = Literal["l2", "squared_l2", "cosine"]


class QueryMatching(Loss):
    """Mean distance of the student's query vectors to the teacher's: R_Emb,Q of EmbedDistill.

    Args:
        weight: as in `Loss`.
        teacher: as in `Loss`.
        distance: l2 is the paper's (not squared); cosine is 1 - cos.
    """

    reads_documents = False

    def __init__(self, weight: float = 1.0, teacher: str | None = None, distance: Distance = "l2"):
        super().__init__(weight, teacher)
        self.distance = distance

    def check(self, inputs: LossInputs) -> None:
        inputs.require_vectors()

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        beside_documents = teacher.query.ndim == 3  # [B, K, D]: a cross encoder has a vector of the query beside each candidate
        ours = student.query[:, None] if beside_documents else student.query
        return vector_distances(ours, teacher.query, self.distance).mean()


class DocumentMatching(Loss):
    """Mean distance of the student's document vectors to the teacher's: R_Emb,D; zero where documents are inherited.

    Args:
        weight: as in `Loss`.
        teacher: as in `Loss`.
        distance: l2 is the paper's (not squared); cosine is 1 - cos.
    """

    def __init__(self, weight: float = 1.0, teacher: str | None = None, distance: Distance = "l2"):
        super().__init__(weight, teacher)
        self.distance = distance

    def check(self, inputs: LossInputs) -> None:
        inputs.require_own_documents()
        inputs.require_candidates(self, at_least=1)
        inputs.require_vectors()

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return vector_distances(student.document, teacher.document, self.distance).mean()


def vector_distances(ours: Tensor, theirs: Tensor, distance: Distance) -> Tensor:
    """Returns the distances [...] of vectors [..., D] to others [..., D].

    >>> vector_distances(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2), "squared_l2")
    tensor([25.])
    """
    if distance == "cosine":
        return 1 - F.cosine_similarity(ours, theirs, dim=-1)
    squared = (ours - theirs).square().sum(dim=-1)
    if distance == "squared_l2":
        return squared
    return torch.sqrt(squared + 1e-12)  # the slope of the root at 0 would be infinite
