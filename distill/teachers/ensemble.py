"""A teacher that is a weighted average of several teachers' distributions over each query's candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.records import BadInput, Batch, Encoded
from distill.teachers.teacher import Teacher


@dataclass
class EnsembleSettings:
    """Settings of an ensemble: its teachers and their weights. A loss learns from the ensemble by `teacher: ensemble`.

    Each teacher's distribution is the softmax over a query's candidates of its scores, divided by its temperature. The ensemble is the
    weighted average of these distributions.

    Args:
        temperatures: temperature of each teacher by name; `store` is the teacher of data.store. 0.05 fits cosines, 1 fits logits.
        weights: equal gives all teachers the same weight; margin weights a teacher, for each query, in proportion to the difference
            between its two largest probabilities; learned trains the weights on the judged positives, as a softmax over teachers of
            `constant + factor * difference`, with both numbers learned for each teacher.
    """

    temperatures: dict[str, float] = field(default_factory=dict)
    weights: Literal["equal", "margin", "learned"] = "equal"

    def __post_init__(self) -> None:
        if len(self.temperatures) < 2 or min(self.temperatures.values()) <= 0:
            raise BadInput("model.ensemble.temperatures: name at least two teachers, each with a temperature above 0")


class EnsembleTeacher(nn.Module):
    """A teacher that averages others; its parameters are trained where the weights are learned. It has scores and no vectors.

    Args:
        settings: names of the teachers and how they are weighted.
        teachers: teachers by name; those that the settings do not name are not used.
    """

    width = 0
    reads_pairs = True  # cross encoders may be among its teachers
    has_cosine_scores = False

    def __init__(self, settings: EnsembleSettings, teachers: Mapping[str, Teacher] | None = None):
        super().__init__()
        self.settings = settings
        self.teachers = teachers or {}
        if settings.weights == "learned":
            count = len(settings.temperatures)
            self.constant = nn.Parameter(torch.zeros(count))
            self.margin_factor = nn.Parameter(torch.zeros(count))

    def forward(self, batch: Batch) -> Encoded:
        """Averages the distributions of all teachers for the batch."""
        return self.combine({name: self.teachers[name](batch) for name in self.settings.temperatures})

    def combine(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Averages the teachers' outputs, given by name; the scores of the result are log probabilities [B, K]."""
        temperatures = self.settings.temperatures
        distributions = [F.log_softmax(encoded[name].scores / temperature, dim=-1) for name, temperature in temperatures.items()]
        log_probabilities = torch.stack(distributions, dim=1)  # [B, T, K] of T teachers
        log_weights = self.log_weights(log_probabilities)  # [B, T]
        scores = torch.logsumexp(log_weights[:, :, None] + log_probabilities, dim=1)  # [B, K]
        no_vectors = scores.new_empty(len(scores), 0)
        first = encoded[next(iter(temperatures))]
        return Encoded(no_vectors, scores.new_empty(*scores.shape, 0), scores, first.document_rows)

    def log_weights(self, log_probabilities: Tensor) -> Tensor:
        """Returns log weights [B, T] of T teachers from their log probabilities [B, T, K]."""
        first, second = log_probabilities.exp().topk(2, dim=-1).values.unbind(-1)
        margins = first - second  # [B, T]
        if self.settings.weights == "learned":
            return F.log_softmax(self.constant + self.margin_factor * margins, dim=-1)
        shares = margins + 1e-6 if self.settings.weights == "margin" else torch.ones_like(margins)
        return (shares / shares.sum(dim=-1, keepdim=True)).log()

    def loss(self, combined: Encoded) -> Tensor:
        """Returns the loss that trains the weights: minus the mean log probability of column 0, the positive. 0 for fixed weights."""
        if self.settings.weights == "learned":
            return -combined.scores[:, 0].mean()
        return combined.scores.new_zeros(())
