"""The metrics of each system for each query of an evaluated split, and groups of similar queries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from distill.evaluation.evaluation_set import rows_and_scores
from distill.evaluation.fields import MAIN_METRIC, OVERLAP, STUDENT, TEACHER
from distill.metrics.ranking import overlap
from distill.metrics.retention import Interval, bootstrap_mean, bootstrap_ratio
from distill.texts.grading import grade_judged
from distill.texts.ids import Ids
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.texts.words import count_words

RESAMPLES = 2000  # bootstrap samples for an interval; few, as a report has many intervals

ScoredDocuments = dict[str, list[tuple[str, float]]]  # (document id, score) pairs, best first, by query id
Values = dict[str, dict[str, np.ndarray]]  # values [Q] of each query, by system and metric


@dataclass(frozen=True)
class QueryResults:
    """The results of each query of an evaluated split: of the Q judged queries, or of all Q queries if none is judged."""

    ids: list[str]
    texts: list[str]
    splits: list[str]  # [Q] the split of each query, e.g. dl19 or dl20 for `dl19+dl20`
    values: Values  # without judgments only the student's overlap@10 with the teacher
    rankings: dict[str, ScoredDocuments]  # by system
    grades: dict[str, dict[str, int]]  # judgments by query and document
    all_texts: Texts  # of every query of the split, judged or not

    @property
    def metric(self) -> str:
        """The metric by which student and teacher are compared on a query."""
        return MAIN_METRIC if MAIN_METRIC in self.values[STUDENT] else OVERLAP

    @cached_property
    def margins(self) -> np.ndarray:
        """[Q] difference between the teacher's scores of its first and second document."""
        margins = []
        for query in self.ids:
            scores = [score for _, score in self.rankings[TEACHER].get(query, [])[:2]]
            margins.append(scores[0] - scores[1] if len(scores) == 2 else 0.0)
        return np.array(margins)

    @cached_property
    def word_counts(self) -> np.ndarray:
        """[Q] number of words of each query."""
        return np.array(list(map(count_words, self.texts)))

    def measure_retention(self, members: np.ndarray) -> Interval:
        """Measures the student's retention on the queries in `members` [Q] bool; raises BadInput if the teacher's metric is 0 there."""
        student = self.values[STUDENT][self.metric][members]
        if self.metric == OVERLAP:
            return bootstrap_mean(student, RESAMPLES)
        return bootstrap_ratio(student, self.values[TEACHER][self.metric][members], RESAMPLES)


def grade_rankings(source: TextSource, split: str, rankings: dict[str, ScoredDocuments]) -> QueryResults:
    """Computes the metrics of several systems for each query.

    Args:
        source: texts and judgments.
        split: split of the queries.
        rankings: ranking of each system, including teacher and student.
    """
    texts, qrels = source.queries(split), source.qrels(split)
    query_ids = list(texts.ids)
    judged = np.arange(0) if qrels is None else qrels.judged_positions(query_ids)
    if not len(judged):  # there are no judgments, or only of other queries
        qrels, judged = None, np.arange(len(query_ids))
    ids = [query_ids[position] for position in judged]
    corpus = _list_documents(source, rankings)
    rows = {}
    for name, ranking in rankings.items():
        rows[name], _ = rows_and_scores([ranking.get(query, []) for query in ids], corpus)
    values: Values = {name: grade_judged(qrels, ids, corpus, ranked, source.relevant_from) for name, ranked in rows.items()}
    if qrels is None:
        agreement = overlap(torch.from_numpy(rows[TEACHER]), torch.from_numpy(rows[STUDENT]), 10)
        values = {STUDENT: {OVERLAP: agreement.numpy()}}
    parts = split.split("+")
    split_of_query = np.repeat(parts, [len(source.queries(part)) for part in parts])
    return QueryResults(
        ids=ids,
        texts=texts.read(judged),
        splits=split_of_query[judged].tolist(),
        values=values,
        rankings=rankings,
        grades={} if qrels is None else qrels.judgments,
        all_texts=texts,
    )


def _list_documents(source: TextSource, rankings: dict[str, ScoredDocuments]) -> Ids:
    """Lists the documents of the corpus that any system ranks; a baseline may also rank other documents, which are not relevant."""
    lists = (documents for ranking in rankings.values() for documents in ranking.values())
    ids = list(dict.fromkeys(document for documents in lists for document, _ in documents))
    if source.has_documents():
        ids = list(itertools.compress(ids, source.documents().ids.rows(ids) >= 0))
    return Ids.of(ids)


def split_into_bins(values: np.ndarray, count: int = 4, whole: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """Splits queries by a value of each into up to `count` groups of similar size, in ascending order.

    Args:
        values: [Q] the value of each query.
        count: largest number of groups.
        whole: whether values are whole numbers, so that a group is `3-5` and the next begins with 6.

    Yields:
        label and members [Q] bool of each group; no group if all values are the same.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1), method="higher" if whole else "linear"))
    for low, high in itertools.pairwise(edges):
        is_last = high == edges[-1]
        below = values <= high if is_last else values < high
        label = f"{low:.3f}-{high:.3f}"
        if whole:
            label = _label_whole(int(low), int(high) if is_last else int(high) - 1)
        yield label, (values >= low) & below


def _label_whole(low: int, high: int) -> str:
    """Labels the whole numbers from `low` to `high`."""
    return f"{low}" if low == high else f"{low}-{high}"
