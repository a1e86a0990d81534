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
    documents: np.ndarray  # [B, K]; rows of -1 are padding
    relevant: np.ndarray | None = None  # [B, J] documents that are judged relevant to each query; rows of -1 are padding


class NegativeSampler:
    """Draws each example's negatives, others in every epoch.

    They depend on (seed, epoch, example) alone: not on the number of ranks, and not on whether a training was resumed.

    Args:
        examples: positives, and pools to draw negatives from; documents judged relevant to the query are taken out of its pool.
        known: rows of queries [M] and of documents [M] that are judged relevant, whatever the grade.
        documents: number of documents in the corpus.
        count: negatives an example.
        seed: of the draws.
    """

    def __init__(self, examples: TrainingPairs, known: tuple[np.ndarray, np.ndarray], documents: int, count: int, seed: int):
        self.examples, self.documents, self.count, self.seed = examples, documents, count, seed
        queries = np.concatenate([known[0], examples.queries])
        judged = np.concatenate([known[1], examples.positives])
        self.known = np.unique(queries * documents + judged)  # [M] a number for each pair, ascending
        self.relevant = RelevantRows(self.known // documents, self.known % documents, int(examples.queries.max(initial=-1)) + 1)
        if count + self.relevant.most > documents:
            available = f"the corpus has {documents} documents, up to {self.relevant.most} of them relevant"
            raise BadInput(f"data.negatives_per_query: {count}, but {available}")
        pairs = examples.queries[:, None] * documents + examples.pools
        self.pools = np.where((examples.pools >= 0) & ~np.isin(pairs, self.known), examples.pools, -1)  # [E, P]

    def draw_candidates(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Returns the documents [B, 1 + count] of examples [B]: the positive, then its negatives."""
        negatives = np.stack([self._draw_negatives(row, epoch) for row in rows.tolist()])
        return np.concatenate([self.examples.positives[rows][:, None], negatives], axis=1)

    def _draw_negatives(self, example: int, epoch: int) -> np.ndarray:
        """Draws from the example's pool, and where that has too few from the whole corpus."""
        random = np.random.default_rng([self.seed, epoch, example])
        pool = self.pools[example]
        chosen = random.permutation(np.unique(pool[pool >= 0]))[: self.count]
        query = self.examples.queries[example] * self.documents
        while len(chosen) < self.count:
            more = random.integers(self.documents, size=2 * self.count)
            more = more[~np.isin(query + more, self.known) & ~np.isin(more, chosen)]
            first_places = np.sort(np.unique(more, return_index=True)[1])
            chosen = np.concatenate([chosen, more[first_places]])[: self.count]
        return chosen
