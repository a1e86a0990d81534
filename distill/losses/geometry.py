"""Learning how the teacher's vectors lie to one another, over the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, LossInputs
from distill.records import Encoded

SAME_TEXT = 1 - 1e-5  # least cosine of two of the teacher's vectors that are taken for one text's


class SimilarityMatching(Loss):
    """Mean squared difference of cosines: every query to every other query and to every candidate of the batch.

    It aligns the student's similarity graph of the batch with the teacher's (similarity-preserving distillation, arXiv 1907.09682).
    Turning or stretching all of a student's vectors alike changes nothing, so it places them only beside a loss that matches them.
    """

    def check(self, inputs: LossInputs) -> None:
        inputs.require_queries_alone()

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        difference = pairwise_cosines(student) - pairwise_cosines(teacher)  # [B, B + B * K]
        # to itself every query is 1 on both sides
        return difference.square().sum() / max(1, difference.numel() - len(difference))


class ContrastiveMatching(Loss):
    """InfoNCE of the student's query vectors against the teacher's: each has to tell its own from those of the batch's other queries.

    Contrastive representation distillation (arXiv 1910.10699) with the batch as negatives: it asks for the nearest vector, not for a
    near one. Another query with the same teacher vector is no negative.

    Args:
        weight: as in `Loss`.
        teacher: as in `Loss`.
        temperature: cosines are divided by it.
    """

    reads_documents = False

    def __init__(self, weight: float = 1.0, teacher: str | None = None, temperature: float = 0.05):
        super().__init__(weight, teacher)
        self.temperature = temperature

    def check(self, inputs: LossInputs) -> None:
        inputs.require_queries_alone()
        inputs.require_vectors()

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        ours = F.normalize(student.query, dim=-1)
        theirs = F.normalize(teacher.query, dim=-1)
        own = torch.arange(len(ours), device=ours.device)
        same_text = (theirs @ theirs.T >= SAME_TEXT) & (own[:, None] != own)  # [B, B]
        cosines = (ours @ theirs.T).masked_fill(same_text, -torch.inf)  # [B, B]
        return F.cross_entropy(cosines / self.temperature, own)


def pairwise_cosines(encoded: Encoded) -> Tensor:
    """Returns cosines [B, B + B * K] of every query to the batch's queries, then to all its candidates."""
    queries = F.normalize(encoded.query, dim=-1)
    documents = F.normalize(encoded.document.flatten(0, 1), dim=-1)
    return queries @ torch.cat([queries, documents]).T
