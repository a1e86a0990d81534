"""Learning from labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import COSINE_TEMPERATURE, Loss, batch_scores, false_negative_mask
from distill.records import Encoded


@dataclass
class OneHot(Loss):
    """Softmax cross-entropy of the student's scores; the answer is column 0 of a query's own candidates.

    The candidates are the query's own documents and those of the whole batch (EmbedDistill, one-hot loss), but for others that are
    judged relevant to it.

    Args:
        temperature: scores are divided by it; by default 0.05 where the teacher's vectors have length 1, and 1 where they are longer.
    """

    temperature: float | None = None

    min_candidates = 1
    needs_labels = True

    def with_default_temperature(self, temperature: float, teacher_temperature: float | None) -> OneHot:
        return self if self.temperature is not None else replace(self, temperature=temperature)

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        scores = batch_scores(student).masked_fill(false_negative_mask(student), -torch.inf)  # [B, B * K]
        candidates = student.document.shape[1]
        positives = torch.arange(len(scores), device=scores.device) * candidates
        return F.cross_entropy(scores / (COSINE_TEMPERATURE if self.temperature is None else self.temperature), positives)
