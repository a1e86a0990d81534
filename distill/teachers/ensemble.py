"""Several teachers as one: a weighted average of their distributions over each query's candidates."""

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
    """Which teachers are averaged and how they are weighted; losses learn from the average by `teacher: ensemble`.

    A teacher's scores divided by its temperature make a softmax over a query's candidates. The ensemble is the average of these.

    Args:
        temperatures: of each teacher's scores, by name; `store` is the one that made data.store. 0.05 suits cosines, 1 logits.
        weights: equal for all; margin gives each teacher, query by query, the share of its margin between the first two candidates;
            learned fits the shares to the judged positives, as a softmax of a constant and of the margin for each teacher.
    """

    temperatures: dict[str, float] = field(default_factory=dict)
    weights: Literal["equal", "margin", "learned"] = "equal"

    def __post_init__(self) -> None:
        if len(self.temperatures) < 2 or min(self.temperatures.values()) <= 0:
            raise BadInput("model.ensemble.temperatures: name at least two teachers, each with a temperature above 0")


class EnsembleTeacher(nn.Module):
    """A teacher that averages others; its parameters are trained where the weights are learned. It has scores and no vectors.

    Args:
        settings: which teachers, and how they are weighted.
        teachers: them by name, others may be among them.
    """

    width = 0
    reads_pairs = True  # it may have cross encoders in it
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
        """Averages what every teacher computes for the batch."""
        return self.combine({name: self.teachers[name](batch) for name in self.settings.temperatures})

    def combine(self, encoded: Mapping[str, Encoded]) -> Encoded:
        """Averages what the teachers computed, by name; scores are log probabilities [B, K]."""
        log_probabilities = torch.stack(
            [F.log_softmax(encoded[name].scores / temperature, dim=-1) for name, temperature in self.settings.temperatures.items()], dim=1
        )  # [B, T, K] of T teachers
        scores = torch.logsumexp(self.log_weights(log_probabilities)[:, :, None] + log_probabilities, dim=1)  # [B, K]
        no_vectors = scores.new_empty(len(scores), 0)
        first = encoded[next(iter(self.settings.temperatures))]
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
        """Returns what learned weights minimise: minus the mean log probability of the positive, column 0; 0 where none are learned."""
        if self.settings.weights == "learned":
            return -combined.scores[:, 0].mean()
        return combined.scores.new_zeros(())
