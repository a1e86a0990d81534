"""Learning from the teacher's scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss
from distill.records import Encoded


@dataclass
class ScoreDistillation(Loss):
    """Cross-entropy between the teacher's and the student's softmax over each query's own candidates (EmbedDistill).

    Minus the teacher's entropy, so that it is the KL divergence: 0 when the student scores as the teacher does.

    Args:
        temperature: both sides' scores are divided by it; 0.05 suits vectors of length 1.
    """

    temperature: float = 0.05

    min_candidates = 2  # a softmax over one document says nothing

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        targets = F.log_softmax(teacher.scores / self.temperature, dim=-1)  # [B, K]
        logits = F.log_softmax(student.scores / self.temperature, dim=-1)
        return F.kl_div(logits, targets, log_target=True, reduction="batchmean")
