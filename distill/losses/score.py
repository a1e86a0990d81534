"""Learning from the teacher's scores of each query's own candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import COSINE_TEMPERATURE, Loss
from distill.records import Encoded


@dataclass
class ScoreDistillation(Loss):
    """Cross-entropy between the teacher's and the student's softmax over each query's own candidates (EmbedDistill).

    Minus the teacher's entropy, so that it is the KL divergence: 0 when the student scores as the teacher does. Its slope along a
    student's score is the difference of the two shares over `temperature`, so halving that doubles the pull; no factor of
    temperature squared takes it back, as in Hinton et al. (2015): `weight` does.

    Args:
        temperature: the student's scores are divided by it; by default 0.05 where the teacher's vectors have length 1, and 1 where
            they are longer.
        teacher_temperature: the teacher's scores are divided by it; by default `temperature`, or what suits them where they are of another
            kind: those of a cross encoder and of an ensemble are logits.
    """

    temperature: float | None = None
    teacher_temperature: float | None = None

    min_candidates = 2  # a softmax over one document says nothing

    def with_default_temperature(self, temperature: float, teacher_temperature: float | None) -> ScoreDistillation:
        ours = temperature if self.temperature is None else self.temperature
        theirs = teacher_temperature if self.teacher_temperature is None else self.teacher_temperature
        return replace(self, temperature=ours, teacher_temperature=theirs)

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        ours = COSINE_TEMPERATURE if self.temperature is None else self.temperature
        theirs = ours if self.teacher_temperature is None else self.teacher_temperature
        targets = F.log_softmax(teacher.scores / theirs, dim=-1)  # [B, K]
        logits = F.log_softmax(student.scores / ours, dim=-1)
        return F.kl_div(logits, targets, log_target=True, reduction="batchmean")


@dataclass
class MarginMSE(Loss):
    """Mean squared difference of margins: how far column 0 scores above each other candidate (Hofstaetter et al., arXiv 2010.02666).

    Margins, unlike scores, are comparable where teacher and student score on scales that are shifted, but not where they are stretched.
    """

    min_candidates = 2

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        return F.mse_loss(score_margins(student.scores), score_margins(teacher.scores))


@dataclass
class ScoreMSE(Loss):
    """Mean squared difference of scores, on one scale."""

    min_candidates = 1

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        return F.mse_loss(student.scores, teacher.scores)


def score_margins(scores: Tensor) -> Tensor:
    """[B, K] -> [B, K - 1]: the first candidate's score minus that of each other."""
    return scores[:, :1] - scores[:, 1:]
