"""The metrics of `ranking` as torchmetrics: their mean over the queries of any number of batches and ranks.

They keep sums and counts in float64, so every query counts once however the batches and ranks divide them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from distill.metrics.ranking import cosine, ndcg, overlap, recall, reciprocal_rank
from distill.records import BadInput


class QueryMean(Metric):
    """Mean of one value a query; a subclass computes the values and passes them to `add`.

    Args:
        name: of the metric, as results and logs name it.
        settings: further settings that tell it from other metrics of the same name.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, name: str, *settings: int):
        super().__init__()
        self.name = name
        # a MetricCollection merges metrics whose states have equal names and, after one batch, equal values: the names must differ
        self._total = f"total of {name} {settings}"
        self._count = f"count of {name} {settings}"
        for state in (self._total, self._count):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Adds the values [Q] of Q queries."""
        setattr(self, self._total, getattr(self, self._total) + values.sum())
        setattr(self, self._count, getattr(self, self._count) + len(values))

    def compute(self) -> Tensor:
        return getattr(self, self._total) / getattr(self, self._count)


class MRR(QueryMean):
    """Mean reciprocal rank of the first relevant document within the top `k`.

    >>> mrr = MRR(k=10)
    >>> mrr.update(ranked_grades=torch.tensor([[1, 0, 0], [0, 0, 1]]), judged_grades=torch.tensor([[1], [1]]))
    >>> round(mrr.compute().item(), 4)
    0.6667
    """

    def __init__(self, k: int, relevant_from: int = 1):
        _check_settings(k, relevant_from)
        super().__init__(f"mrr@{k}", relevant_from)
        self.k, self.relevant_from = k, relevant_from

    def update(self, ranked_grades: Tensor, judged_grades: Tensor) -> None:
        self.add(reciprocal_rank(ranked_grades, self.k, self.relevant_from))


class Recall(QueryMean):
    """Mean share of the relevant documents that are in the top `k`."""

    def __init__(self, k: int, relevant_from: int = 1):
        _check_settings(k, relevant_from)
        super().__init__(f"recall@{k}", relevant_from)
        self.k, self.relevant_from = k, relevant_from

    def update(self, ranked_grades: Tensor, judged_grades: Tensor) -> None:
        self.add(recall(ranked_grades, judged_grades, self.k, self.relevant_from))


class NDCG(QueryMean):
    """Mean normalised discounted cumulative gain of the top `k`, on the grades."""

    def __init__(self, k: int):
        _check_settings(k)
        super().__init__(f"ndcg@{k}")
        self.k = k

    def update(self, ranked_grades: Tensor, judged_grades: Tensor) -> None:
        self.add(ndcg(ranked_grades, judged_grades, self.k))


class Overlap(QueryMean):
    """Mean share of the reference's top `k` that the candidate retrieves too: agreement, for which no judgments are needed."""

    def __init__(self, k: int):
        _check_settings(k)
        super().__init__(f"overlap@{k}")
        self.k = k

    def update(self, reference_rows: Tensor, candidate_rows: Tensor) -> None:
        self.add(overlap(reference_rows, candidate_rows, self.k))


class MeanCosine(QueryMean):
    """Mean cosine between the candidate's vectors and the reference's."""

    def __init__(self) -> None:
        super().__init__("cosine")

    def update(self, reference: Tensor, candidate: Tensor) -> None:
        self.add(cosine(reference, candidate))


def judged_metrics(relevant_from: int) -> dict[str, QueryMean]:
    """The metrics of `ranking_metrics`, each by its name."""
    metrics: tuple[QueryMean, ...] = (MRR(10, relevant_from), NDCG(10), Recall(100, relevant_from))
    return {metric.name: metric for metric in metrics}


def _check_settings(k: int, relevant_from: int = 1) -> None:
    if k < 1:
        raise BadInput(f"k is {k}: a metric reads at least the first document")
    if relevant_from < 1:
        raise BadInput(f"relevant_from is {relevant_from}: grade 0 means not judged or not relevant, so it starts at 1")
