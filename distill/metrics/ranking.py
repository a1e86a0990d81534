"""How good a ranking is, and how much of a reference's ranking it keeps. trec_eval's semantics, checked against it in the tests.

Judged metrics read two tensors of grades, one row a query:
`ranked_grades` [Q, R]: the grade of each retrieved document, best first; 0 where nobody judged it or nothing was retrieved.
`judged_grades` [Q, J]: every grade judged for the query, in any order, padded with 0; documents that were not retrieved, or that
the corpus lacks, count in recall and in the ideal ranking. A query without a relevant document scores 0 and is counted.

The functions give one float64 value a query, as intervals need; the metrics average them over any number of batches and ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from distill.records import BadInput


def reciprocal_rank(ranked_grades: Tensor, k: int, relevant_from: int = 1) -> Tensor:
    """[Q]: 1 / rank of the first document graded `relevant_from` or more, 0 when the top `k` have none."""
    relevant = (ranked_grades[:, :k] >= relevant_from).double()  # [Q, <= k]
    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    return (relevant / ranks).amax(1) if len(ranks) else relevant.sum(1)


def recall(ranked_grades: Tensor, judged_grades: Tensor, k: int, relevant_from: int = 1) -> Tensor:
    """[Q]: share of the documents judged `relevant_from` or more that the top `k` hold."""
    found = (ranked_grades[:, :k] >= relevant_from).sum(1).double()
    return found / (judged_grades >= relevant_from).sum(1).clamp(min=1)


def ndcg(ranked_grades: Tensor, judged_grades: Tensor, k: int) -> Tensor:
    """[Q]: gain of the top `k` over the gain of the best possible top `k`; the gain is the grade, discounted by log2(rank + 1)."""
    ideal = _discounted_gain(judged_grades.sort(dim=1, descending=True).values, k)
    return _discounted_gain(ranked_grades, k) / ideal.where(ideal > 0, 1.0)


def ranking_metrics(ranked_grades: Tensor, judged_grades: Tensor, relevant_from: int) -> dict[str, Tensor]:
    """The metrics every evaluation reports, [Q] each; grades from `relevant_from` are relevant where a metric knows yes and no."""
    return {
        "mrr@10": reciprocal_rank(ranked_grades, 10, relevant_from),
        "ndcg@10": ndcg(ranked_grades, judged_grades, 10),
        "recall@100": recall(ranked_grades, judged_grades, 100, relevant_from),
    }


def overlap(reference_rows: Tensor, candidate_rows: Tensor, k: int) -> Tensor:
    """[Q]: share of the reference's top `k` rows [Q, R] that the candidate's top `k` [Q, C] holds, in any order; row -1 is no document."""
    reference, candidate = reference_rows[:, :k].contiguous(), candidate_rows[:, :k].sort(dim=1).values
    # looked up, not compared all with all: k = 1000 would need a million flags a query
    place = torch.searchsorted(candidate, reference).clamp(max=candidate.shape[1] - 1)
    found = (candidate.gather(1, place) == reference) & (reference >= 0)
    return found.sum(1).double() / (reference >= 0).sum(1).clamp(min=1)


def cosine(reference: Tensor, candidate: Tensor) -> Tensor:
    """[Q]: cosine of the angle between the rows of two [Q, D]; 0 where one is the zero vector."""
    return torch.cosine_similarity(reference.double(), candidate.double(), dim=1)


def _discounted_gain(grades: Tensor, k: int) -> Tensor:
    """[Q]: negative grades, which some collections give to spam, gain nothing."""
    gains = grades[:, :k].clamp(min=0).double()
    return gains @ (1 / torch.arange(2, gains.shape[1] + 2, device=gains.device).double().log2())


class QueryMean(Metric):
    """Mean over queries of the values that `update` adds. Sums and counts in float64: exact on any number of ranks and batches."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, name: str, *settings: int):
        super().__init__()
        self.name = name
        # a MetricCollection takes metrics whose states agree after one batch for the same metric: their names must differ
        self._total, self._count = (f"{state} of {name} {settings}" for state in ("total", "count"))
        for state in (self._total, self._count):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """values: [Q], one a query."""
        setattr(self, self._total, getattr(self, self._total) + values.sum())
        setattr(self, self._count, getattr(self, self._count) + len(values))

    def compute(self) -> Tensor:
        return getattr(self, self._total) / getattr(self, self._count)


class MRR(QueryMean):
    """Mean reciprocal rank within the top `k`."""

    def __init__(self, k: int, relevant_from: int = 1):
        super().__init__(f"mrr@{_checked(k, relevant_from)}", relevant_from)
        self.k, self.relevant_from = k, relevant_from

    def update(self, ranked_grades: Tensor, judged_grades: Tensor) -> None:
        self.add(reciprocal_rank(ranked_grades, self.k, self.relevant_from))


class Recall(QueryMean):
    """Mean share of the relevant documents that the top `k` hold."""

    def __init__(self, k: int, relevant_from: int = 1):
        super().__init__(f"recall@{_checked(k, relevant_from)}", relevant_from)
        self.k, self.relevant_from = k, relevant_from

    def update(self, ranked_grades: Tensor, judged_grades: Tensor) -> None:
        self.add(recall(ranked_grades, judged_grades, self.k, self.relevant_from))


class NDCG(QueryMean):
    """Mean normalised discounted cumulative gain of the top `k`, on the grades."""

    def __init__(self, k: int):
        super().__init__(f"ndcg@{_checked(k)}")
        self.k = k

    def update(self, ranked_grades: Tensor, judged_grades: Tensor) -> None:
        self.add(ndcg(ranked_grades, judged_grades, self.k))


class Overlap(QueryMean):
    """Mean share of the reference's top `k` that the candidate finds: agreement, no judgements needed."""

    def __init__(self, k: int):
        super().__init__(f"overlap@{_checked(k)}")
        self.k = k

    def update(self, reference_rows: Tensor, candidate_rows: Tensor) -> None:
        self.add(overlap(reference_rows, candidate_rows, self.k))


class MeanCosine(QueryMean):
    """Mean cosine between the candidate's vectors and the reference's."""

    def __init__(self) -> None:
        super().__init__("cosine")

    def update(self, reference: Tensor, candidate: Tensor) -> None:
        self.add(cosine(reference, candidate))


def _checked(k: int, relevant_from: int = 1) -> int:
    if k < 1:
        raise BadInput(f"k is {k}: a metric reads at least the first document")
    if relevant_from < 1:
        raise BadInput(f"relevant_from is {relevant_from}: grade 0 means not judged or not relevant, so it starts at 1")
    return k
