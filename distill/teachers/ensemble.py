"""Several teachers as one: each query's candidates by a mixture of what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.records import BadInput, Encoded


@dataclass
class EnsembleSettings:
    """How much each teacher has to say; losses learn from the mixture by `teacher: ensemble`.

    A teacher's scores over its temperature make a softmax over a query's candidates; the mixture of these is the ensemble's.

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
    """The ensemble at work; its parameters learn where the weights are learned."""

    def __init__(self, ensemble: EnsembleSettings):
        super().__init__()
        self.ensemble = ensemble
        if ensemble.weights == "learned":
            self.constant = nn.Parameter(torch.zeros(len(ensemble.temperatures)))
            self.of_margin = nn.Parameter(torch.zeros(len(ensemble.temperatures)))

    def forward(self, teachers: Mapping[str, Encoded]) -> Encoded:
        """Scores are the log shares [B, K] of the mixture; there are no vectors."""
        some = teachers[next(iter(self.ensemble.temperatures))]
        logs = torch.stack([F.log_softmax(teachers[name].scores / t, dim=-1) for name, t in self.ensemble.temperatures.items()], dim=1)
        scores = torch.logsumexp(self.log_weights(logs)[:, :, None] + logs, dim=1)
        nothing = scores.new_empty(len(scores), 0)
        return Encoded(nothing, scores.new_empty(*scores.shape, 0), scores, some.document_rows)

    def log_weights(self, logs: Tensor) -> Tensor:
        """[B, T] log weights of T teachers from their log shares [B, T, K]."""
        first, second = logs.exp().topk(2, dim=-1).values.unbind(-1)
        margins = first - second  # [B, T]
        if self.ensemble.weights == "learned":
            return F.log_softmax(self.constant + self.of_margin * margins, dim=-1)
        shares = margins + 1e-6 if self.ensemble.weights == "margin" else torch.ones_like(margins)
        return (shares / shares.sum(dim=-1, keepdim=True)).log()

    def loss(self, mixture: Encoded) -> Tensor:
        """What learned weights minimise: minus the log share of the positive, column 0; 0 where none are."""
        return -mixture.scores[:, 0].mean() if self.ensemble.weights == "learned" else mixture.scores.new_zeros(())
