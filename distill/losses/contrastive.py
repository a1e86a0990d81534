"""The loss that learns from labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import COSINE_TEMPERATURE, Loss, LossInputs, batch_scores, check_temperature, false_negative_mask
from distill.records import Encoded


class OneHot(Loss):
    """Softmax cross-entropy of the student's scores; the answer is the first of a query's own candidates (EmbedDistill, one-hot loss).

    The softmax is over the query's own candidates and those of the whole batch, without other documents that are judged relevant to it.

    Args:
        weight: as in `Loss`.
        teacher: as in `Loss`, but not used: the target is the label.
        temperature: scores are divided by it; by default 0.05 where the teacher's vectors have length 1, and 1 where they are longer.
    """

    learns_from_labels = True

    def __init__(self, weight: float = 1.0, teacher: str | None = None, temperature: float | None = None):
        super().__init__(weight, teacher)
        self.temperature = check_temperature(temperature)
        self.default_temperature = COSINE_TEMPERATURE

    @property
    def temperature_in_use(self) -> float:
        return self.default_temperature if self.temperature is None else self.temperature

    def set_default_temperatures(self, student: float, teacher: float | None = None) -> None:
        self.default_temperature = student

    def check(self, inputs: LossInputs) -> None:
        inputs.require_candidates(self, at_least=1)
        inputs.require_labels(self)

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        scores = batch_scores(student).masked_fill(false_negative_mask(student), -torch.inf)  # [B, B * K]
        candidates = student.document.shape[1]
        answers = torch.arange(len(scores), device=scores.device) * candidates  # [B] column of each query's answer
        return F.cross_entropy(scores / self.temperature_in_use, answers)
