"""Learning where the teacher puts a text: embedding matching needs no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss
from distill.records import Encoded

Distance = Literal["l2", "squared_l2", "cosine"]


@dataclass
class QueryMatching(Loss):
    """Mean distance of the student's query vectors to the teacher's: R_Emb,Q of EmbedDistill.

    Args:
        distance: l2 is the paper's (not squared); cosine is 1 - cos.
    """

    distance: Distance = "l2"

    needs_vectors = True

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        # a cross encoder has a vector of the query beside each candidate
        ours = student.query if teacher.query.ndim == 2 else student.query[:, None]
        return vector_distances(ours, teacher.query, self.distance).mean()


@dataclass
class DocumentMatching(Loss):
    """Mean distance of the student's document vectors to the teacher's: R_Emb,D; zero where documents are inherited.

    Args:
        distance: l2 is the paper's (not squared); cosine is 1 - cos.
    """

    distance: Distance = "l2"

    min_candidates = 1
    needs_document_tower = True
    needs_vectors = True

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        return vector_distances(student.document, teacher.document, self.distance).mean()


def vector_distances(ours: Tensor, theirs: Tensor, distance: Distance) -> Tensor:
    """Distance along the last dimension: [..., D], [..., D] -> [...]."""
    if distance == "cosine":
        return 1 - F.cosine_similarity(ours, theirs, dim=-1)
    squared = (ours - theirs).square().sum(dim=-1)
    # the root's slope is infinite at 0, where the student already agrees
    return squared if distance == "squared_l2" else torch.sqrt(squared + 1e-12)
