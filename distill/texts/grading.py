"""Computes the metrics of each query from rankings and judgments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill.metrics.ranking import ranking_metrics
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels

QUERIES_AT_ONCE = 1024  # the grades of a block are as wide as its query of most judgments


def grade_tensors(
    qrels: Qrels, query_ids: Sequence[str], corpus: Ids, rows: np.ndarray, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Looks up the grades that metrics read.

    Args:
        qrels: the judgments.
        query_ids: Q ids, one for each row of `rows`.
        corpus: ids of the documents that `rows` point at.
        rows: [Q, k] int64, retrieved rows of the corpus; rows of -1 are padding.
        device: where the tensors go.

    Returns:
        grades of the retrieved documents [Q, k], and grades of all judged documents [Q, J]; both int64, 0 for padding.

    >>> ranked, judged = grade_tensors(Qrels({"q": {"a": 1, "b": 2}}), ["q"], Ids.of(["a", "b", "c"]), np.array([[2, 1]]))
    >>> ranked.tolist(), judged.tolist()
    ([[0, 2]], [[1, 2]])
    """
    ranked, judged = qrels.grade(query_ids, corpus, rows)
    return torch.from_numpy(ranked).to(device), torch.from_numpy(judged).to(device)


def grade_judged(qrels: Qrels | None, query_ids: Sequence[str], corpus: Ids, rows: np.ndarray, relevant_from: int) -> dict[str, np.ndarray]:
    """Computes every metric for each judged query.

    Args:
        qrels: the judgments, None where there are none.
        query_ids: Q ids, one for each row of `rows`; those without judgments are left out, as trec_eval does.
        corpus: ids of the documents that `rows` point at.
        rows: [Q, k] int64, retrieved rows of the corpus; rows of -1 are padding.
        relevant_from: lowest grade that MRR and recall count as relevant.

    Returns:
        for each metric its values, float64, one for each judged query in the order of `query_ids`; empty where no query is judged.
    """
    if qrels is None:
        return {}
    judged = qrels.judged_positions(query_ids)
    if not len(judged):
        return {}
    parts = []
    for start in range(0, len(judged), QUERIES_AT_ONCE):
        block = judged[start : start + QUERIES_AT_ONCE]
        ranked_grades, judged_grades = grade_tensors(qrels, [query_ids[int(query)] for query in block], corpus, rows[block])
        parts.append(ranking_metrics(ranked_grades, judged_grades, relevant_from))
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}
