"""Metrics of rankings, one value a query: quality by judgments, as trec_eval computes it, and agreement with another ranking.

Judged metrics read two tensors of grades, one row a query:
`ranked_grades` [Q, R]: the grade of each retrieved document, best first; 0 where nobody judged it or nothing was retrieved.
`judged_grades` [Q, J]: every grade judged for the query, in any order, padded with 0; documents that were not retrieved, or that
the corpus lacks, count in recall and in the ideal ranking. A query without a relevant document scores 0 and is counted.

Every function returns one float64 value a query, as intervals need them; `query_means` averages them over batches and ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def reciprocal_rank(ranked_grades: Tensor, k: int, relevant_from: int = 1) -> Tensor:
    """[Q]: 1 / rank of the first document graded `relevant_from` or more, 0 when the top `k` have none.

    >>> reciprocal_rank(torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1]]), k=10).tolist()
    [1.0, 0.5]
    """
    relevant = (ranked_grades[:, :k] >= relevant_from).double()  # [Q, <= k]
    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    if not len(ranks):
        return relevant.sum(1)  # nothing was retrieved: 0 for every query
    return (relevant / ranks).amax(1)


def recall(ranked_grades: Tensor, judged_grades: Tensor, k: int, relevant_from: int = 1) -> Tensor:
    """[Q]: share of the documents judged `relevant_from` or more that are in the top `k`.

    >>> recall(torch.tensor([[1, 0, 2]]), judged_grades=torch.tensor([[1, 2, 1, 1]]), k=10).tolist()
    [0.5]
    """
    retrieved = (ranked_grades[:, :k] >= relevant_from).sum(1).double()
    relevant = (judged_grades >= relevant_from).sum(1)
    return retrieved / relevant.clamp(min=1)


def ndcg(ranked_grades: Tensor, judged_grades: Tensor, k: int) -> Tensor:
    """[Q]: gain of the top `k` over the gain of the best possible top `k`; the gain is the grade, discounted by log2(rank + 1).

    >>> ndcg(torch.tensor([[3, 1], [0, 0]]), judged_grades=torch.tensor([[1, 3], [1, 0]]), k=10).tolist()
    [1.0, 0.0]
    """
    ideal = _discounted_gain(judged_grades.sort(dim=1, descending=True).values, k)
    return _discounted_gain(ranked_grades, k) / ideal.where(ideal > 0, 1.0)


def ranking_metrics(ranked_grades: Tensor, judged_grades: Tensor, relevant_from: int) -> dict[str, Tensor]:
    """The metrics that every evaluation reports, [Q] each; MRR and recall count grades of `relevant_from` or more as relevant."""
    # one more metric needs a class in query_means.py, for training, and a column in evaluation/results.py
    return {
        "mrr@10": reciprocal_rank(ranked_grades, 10, relevant_from),
        "ndcg@10": ndcg(ranked_grades, judged_grades, 10),
        "recall@100": recall(ranked_grades, judged_grades, 100, relevant_from),
    }


def overlap(reference_rows: Tensor, candidate_rows: Tensor, k: int) -> Tensor:
    """[Q]: share of the reference's top `k` documents that are in the candidate's top `k`, in any order.

    Args:
        reference_rows: [Q, R] int64, rows of documents, best first; rows of -1 are padding.
        candidate_rows: [Q, C] int64, the same of another system.
        k: how many documents of each count.

    >>> overlap(torch.tensor([[1, 2, 3]]), torch.tensor([[2, 1, 9]]), k=2).tolist()
    [1.0]
    """
    reference = reference_rows[:, :k].contiguous()
    candidate = candidate_rows[:, :k].sort(dim=1).values
    # a sorted search, as comparing all with all takes a million flags a query for k = 1000
    places = torch.searchsorted(candidate, reference).clamp(max=candidate.shape[1] - 1)
    in_both = (candidate.gather(1, places) == reference) & (reference >= 0)
    return in_both.sum(1).double() / (reference >= 0).sum(1).clamp(min=1)


def cosine(reference: Tensor, candidate: Tensor) -> Tensor:
    """[Q]: cosine of the angle between the rows of two [Q, D]; 0 where one is the zero vector."""
    return torch.cosine_similarity(reference.double(), candidate.double(), dim=1)


def _discounted_gain(grades: Tensor, k: int) -> Tensor:
    """[Q]: summed gain of the top `k` of [Q, R]; negative grades, which some collections give to spam, gain nothing."""
    gains = grades[:, :k].clamp(min=0).double()
    discounts = 1 / torch.arange(2, gains.shape[1] + 2, device=gains.device).double().log2()
    return gains @ discounts
