"""Losses that compare cosines within a batch: how the vectors of the student and of the teacher lie to one another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, LossInputs, check_temperature
from distill.records import Encoded

SAME_TEXT_COSINE = 1 - 1e-5  # two teacher vectors with this cosine or a higher one are taken for those of the same text


class SimilarityMatching(Loss):
    """Mean squared difference of cosines: every query to every other query and to every candidate of the batch.

    It aligns the student's similarity graph of the batch with the teacher's (similarity-preserving distillation, arXiv 1907.09682).
    Its value stays the same when all vectors of the student are rotated or scaled alike: combine it with a loss that matches vectors.
    """

    def check(self, inputs: LossInputs) -> None:
        inputs.require_queries_alone()
        inputs.require_teacher_vectors()

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        difference = pairwise_cosines(student) - pairwise_cosines(teacher)  # [B, B + B * K]
        # the B cosines of a query with itself are 1 on both sides and do not count
        return difference.square().sum() / max(1, difference.numel() - len(difference))


class ContrastiveMatching(Loss):
    """InfoNCE of the student's query vectors: each should be nearer to its own teacher vector than to those of the batch's other queries.

    Contrastive representation distillation (arXiv 1910.10699) with the batch as negatives. Which teacher vector is nearest counts, not
    how near it is. Another query with the same teacher vector is no negative.

    Args:
        weight: as in `Loss`.
        teacher: as in `Loss`.
        temperature: cosines are divided by it.
    """

    reads_documents = False

    def __init__(self, weight: float = 1.0, teacher: str | None = None, temperature: float = 0.05):
        super().__init__(weight, teacher)
        self.temperature = check_temperature(temperature)

    def check(self, inputs: LossInputs) -> None:
        inputs.require_queries_alone()
        inputs.require_vectors()

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        ours = F.normalize(student.query, dim=-1)
        theirs = F.normalize(teacher.query, dim=-1)
        own = torch.arange(len(ours), device=ours.device)
        same_text = (theirs @ theirs.T >= SAME_TEXT_COSINE) & (own[:, None] != own)  # [B, B]
        cosines = (ours @ theirs.T).masked_fill(same_text, -torch.inf)  # [B, B]
        return F.cross_entropy(cosines / self.temperature, own)


def pairwise_cosines(encoded: Encoded) -> Tensor:
    """Returns cosines [B, B + B * K] of every query to the batch's queries, then to all its candidates."""
    queries = F.normalize(encoded.query, dim=-1)
    documents = F.normalize(encoded.document.flatten(0, 1), dim=-1)
    return queries @ torch.cat([queries, documents]).T
