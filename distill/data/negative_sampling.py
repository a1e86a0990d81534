"""Which negatives each training pair gets in each epoch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from distill.records import BadInput
from distill.teachers.negatives import TrainingPairs
from distill.texts.qrels import RelevantRows


class PairRows(NamedTuple):
    """What a batch is made of, by row."""

    queries: np.ndarray  # [B]
    documents: np.ndarray  # [B, K]
    relevant: np.ndarray | None = None  # [B, J] all that is judged relevant to each query, -1 beyond


class NegativeSampler:
    """Draws each example's negatives, others every epoch, from (seed, epoch, example) alone: no number of ranks or resumes shows.

    Args:
        examples: positives and pools; documents that are judged relevant to the query are taken out of its pool.
        known: rows of queries [M] and of documents [M] that are judged relevant, whatever the grade.
        documents: size of the corpus.
        count: negatives an example.
    """

    def __init__(self, examples: TrainingPairs, known: tuple[np.ndarray, np.ndarray], documents: int, count: int, seed: int):
        self.examples, self.documents, self.count, self.seed = examples, documents, count, seed
        judged = np.stack([np.concatenate([known[0], examples.queries]), np.concatenate([known[1], examples.positives])])
        self.known = np.unique(judged[0] * documents + judged[1])  # [M] pairs, ascending
        self.relevant = RelevantRows(self.known // documents, self.known % documents, int(examples.queries.max(initial=-1)) + 1)
        if count + self.relevant.most > documents:
            found = f"the corpus has {documents} documents, up to {self.relevant.most} of them relevant"
            raise BadInput(f"data.negatives_per_query: {count}, but {found}")
        pairs = examples.queries[:, None] * documents + examples.pools
        self.pools = np.where((examples.pools >= 0) & ~np.isin(pairs, self.known), examples.pools, -1)

    def candidates(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """[B, 1 + count] rows of the corpus for examples [B]: the positive, then its negatives."""
        drawn = [self._negatives(row, epoch) for row in rows.tolist()]
        return np.concatenate([self.examples.positives[rows][:, None], np.stack(drawn)], axis=1)

    def _negatives(self, example: int, epoch: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, epoch, example])
        pool = self.pools[example]
        chosen = random.permutation(np.unique(pool[pool >= 0]))[: self.count]
        query = self.examples.queries[example] * self.documents
        while len(chosen) < self.count:
            more = random.integers(self.documents, size=2 * self.count)
            more = more[~np.isin(query + more, self.known) & ~np.isin(more, chosen)]
            chosen = np.concatenate([chosen, more[np.sort(np.unique(more, return_index=True)[1])]])[: self.count]
        return chosen
