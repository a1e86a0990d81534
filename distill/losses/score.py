"""Losses that compare the scores of each query's own candidates."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import COSINE_TEMPERATURE, Loss, LossInputs, check_temperature
from distill.records import Encoded


class ScoreDistillation(Loss):
    """Cross-entropy between the teacher's and the student's softmax over each query's own candidates (EmbedDistill).

    The teacher's entropy is subtracted, which makes it the KL divergence: 0 when the student scores as the teacher does. Its gradient
    by a score of the student is (student's softmax - teacher's softmax) / `temperature`, so half the temperature doubles the gradient.
    Hinton et al. (2015) multiply by the temperature squared to undo that; here `weight` is there for it.

    Args:
        weight: as in `Loss`.
        teacher: as in `Loss`.
        temperature: the student's scores are divided by it; by default 0.05 where the teacher's vectors have length 1, and 1 where
            they are longer.
        teacher_temperature: the teacher's scores are divided by it; by default `temperature` where both are cosines or both logits,
            else 0.05 for cosines and 1 for logits. The scores of a cross encoder and of an ensemble are logits.
    """

    def __init__(
        self,
        weight: float = 1.0,
        teacher: str | None = None,
        temperature: float | None = None,
        teacher_temperature: float | None = None,
    ):
        super().__init__(weight, teacher)
        self.temperature = check_temperature(temperature)
        self.teacher_temperature = check_temperature(teacher_temperature, "teacher_temperature")
        self.default_temperature = COSINE_TEMPERATURE
        self.default_teacher_temperature: float | None = None

    @property
    def temperatures_in_use(self) -> tuple[float, float]:
        """Of the student's scores and of the teacher's."""
        student = self.default_temperature if self.temperature is None else self.temperature
        teacher = self.default_teacher_temperature if self.teacher_temperature is None else self.teacher_temperature
        return student, student if teacher is None else teacher

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

    An offset between the scores of teacher and student changes nothing, another range of the scores does.
    """

    def check(self, inputs: LossInputs) -> None:
        inputs.require_candidates(self, at_least=2)

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return F.mse_loss(score_margins(student.scores), score_margins(teacher.scores))


class ScoreMSE(Loss):
    """Mean squared difference of scores; teacher and student need scores of the same range, without an offset."""

    def check(self, inputs: LossInputs) -> None:
        inputs.require_candidates(self, at_least=1)

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return F.mse_loss(student.scores, teacher.scores)


def score_margins(scores: Tensor) -> Tensor:
    """Returns margins [B, K - 1] of scores [B, K]: the score of the first candidate minus the score of each other one.

    >>> import torch
    >>> score_margins(torch.tensor([[3.0, 1.0, 2.5]]))
    tensor([[2.0000, 0.5000]])
    """
    return scores[:, :1] - scores[:, 1:]
