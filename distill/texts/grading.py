"""From rankings and judgments to metrics, query by query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from distill.metrics.ranking import ranking_metrics
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels


def grade_tensors(
    qrels: Qrels, query_ids: Sequence[str], corpus: Ids, rows: np.ndarray, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Grades of retrieved documents [Q, k], and all grades there were to win [Q, J], as metrics read them.

    Args:
        qrels: the judgments.
        query_ids: Q ids, one for each row of `rows`.
        corpus: ids of the documents that `rows` point at.
        rows: [Q, k] int64, retrieved rows of the corpus, -1 where there is none.
        device: where the grades go.
    """
    ranked, judged = qrels.grade(query_ids, corpus, rows)
    return torch.from_numpy(ranked).to(device), torch.from_numpy(judged).to(device)


def grade_judged(qrels: Qrels | None, query_ids: Sequence[str], corpus: Ids, rows: np.ndarray, relevant_from: int) -> dict[str, np.ndarray]:
    """Values of each metric, float64, one for each judged query; empty where no query is judged.

    Args:
        qrels: the judgments, None where there are none.
        query_ids: Q ids, one for each row of `rows`; those without judgments are left out, as trec_eval does.
        corpus: ids of the documents that `rows` point at.
        rows: [Q, k] int64, retrieved rows of the corpus, -1 where there is none.
        relevant_from: lowest grade that MRR and recall count as relevant.
    """
    places = np.empty(0, np.int64) if qrels is None else qrels.judged_positions(query_ids)
    if qrels is None or not len(places):
        return {}
    grades = grade_tensors(qrels, [query_ids[int(place)] for place in places], corpus, rows[places])
    return {name: values.numpy() for name, values in ranking_metrics(*grades, relevant_from).items()}
