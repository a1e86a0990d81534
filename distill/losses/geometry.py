"""Learning how the teacher's vectors lie to one another, over the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss
from distill.records import Encoded

SAME = 1 - 1e-5  # cosine from which on two of the teacher's vectors are of the same text


@dataclass
class SimilarityMatching(Loss):
    """Mean squared difference of cosines: every query to every other query and every candidate of the batch.

    The student's graph of the batch is aligned to the teacher's (similarity-preserving distillation, arXiv 1907.09682); turning or
    stretching all of a student's vectors alike changes nothing, so it places them only beside a loss that matches them.
    """

    needs_queries_apart = True
    takes_candidates = True

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        difference = pairwise_cosines(student) - pairwise_cosines(teacher)  # [B, B + B * K]
        # to itself every query is 1 on both sides
        return difference.square().sum() / max(1, difference.numel() - len(difference))


@dataclass
class ContrastiveMatching(Loss):
    """InfoNCE of the student's query vectors against the teacher's: each has to tell its own from those of the batch's other queries.

    Contrastive representation distillation (arXiv 1910.10699) with the batch as negatives: what it asks for is the nearest vector,
    not a near one. Another query with the same teacher vector is no negative.

    Args:
        temperature: cosines are divided by it.
    """

    temperature: float = 0.05

    needs_vectors = True
    needs_queries_apart = True

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        ours, theirs = F.normalize(student.query, dim=-1), F.normalize(teacher.query, dim=-1)
        own = torch.arange(len(ours), device=ours.device)
        twins = (theirs @ theirs.T >= SAME) & (own[:, None] != own)
        return F.cross_entropy((ours @ theirs.T).masked_fill(twins, -torch.inf) / self.temperature, own)


def pairwise_cosines(encoded: Encoded) -> Tensor:
    """Cosines of every query to the batch's queries, then to all candidates: [B, B + B * K]."""
    queries = F.normalize(encoded.query, dim=-1)
    return queries @ torch.cat([queries, F.normalize(encoded.document.flatten(0, 1), dim=-1)]).T
