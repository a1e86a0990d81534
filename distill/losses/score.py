"""Learning from the teacher's scores of each query's own candidates."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import COSINE_TEMPERATURE, Loss, LossInputs
from distill.records import Encoded


class ScoreDistillation(Loss):
    """Cross-entropy between the teacher's and the student's softmax over each query's own candidates (EmbedDistill).

    Minus the teacher's entropy, so that it is the KL divergence: 0 when the student scores as the teacher does. Its slope along a
    student's score is the difference of the two shares over `temperature`, so halving that doubles the pull; no factor of
    temperature squared takes it back, as in Hinton et al. (2015): `weight` does.

    Args:
        weight: as in `Loss`.
        teacher: as in `Loss`.
        temperature: the student's scores are divided by it; by default 0.05 where the teacher's vectors have length 1, and 1 where
            they are longer.
        teacher_temperature: the teacher's scores are divided by it; by default `temperature`, or 0.05 for cosines and 1 for logits where
            its scores are of another kind: those of a cross encoder and of an ensemble are logits.
    """

    def __init__(
        self,
        weight: float = 1.0,
        teacher: str | None = None,
        temperature: float | None = None,
        teacher_temperature: float | None = None,
    ):
        super().__init__(weight, teacher)
        self.temperature = temperature
        self.teacher_temperature = teacher_temperature
        self.default_temperature = COSINE_TEMPERATURE
        self.default_teacher_temperature: float | None = None

    @property
    def temperatures_in_use(self) -> tuple[float, float]:
        """Of the student's scores and of the teacher's."""
        student = self.default_temperature if self.temperature is None else self.temperature
        for teacher in (self.teacher_temperature, self.default_teacher_temperature):
            if teacher is not None:
                return student, teacher
        return student, student

    def set_default_temperatures(self, student: float, teacher: float | None = None) -> None:
        self.default_temperature, self.default_teacher_temperature = student, teacher

    def check(self, inputs: LossInputs) -> None:
        inputs.require_candidates(self, at_least=2)  # a softmax over one document is always 1

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        temperature, teacher_temperature = self.temperatures_in_use
        logits = F.log_softmax(student.scores / temperature, dim=-1)  # [B, K]
        targets = F.log_softmax(teacher.scores / teacher_temperature, dim=-1)  # [B, K]
        return F.kl_div(logits, targets, log_target=True, reduction="batchmean")


class MarginMSE(Loss):
    """Mean squared difference of margins: how far the first candidate scores above each other one (Hofstaetter et al., arXiv 2010.02666).

    Teacher and student may score with an offset between them, but not with different factors.
    """

    def check(self, inputs: LossInputs) -> None:
        inputs.require_candidates(self, at_least=2)

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return F.mse_loss(score_margins(student.scores), score_margins(teacher.scores))


class ScoreMSE(Loss):
    """Mean squared difference of scores, which teacher and student have to give without an offset or factor between them."""

    def check(self, inputs: LossInputs) -> None:
        inputs.require_candidates(self, at_least=1)

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return F.mse_loss(student.scores, teacher.scores)


def score_margins(scores: Tensor) -> Tensor:
    """Returns [B, K - 1]: of scores [B, K], the first candidate's minus that of each other.

    >>> import torch
    >>> score_margins(torch.tensor([[3.0, 1.0, 2.5]]))
    tensor([[2.0000, 0.5000]])
    """
    return scores[:, :1] - scores[:, 1:]
