"""Draws the negatives of each training pair in each epoch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from distill.records import BadInput
from distill.teachers.negatives import TrainingPairs
from distill.texts.qrels import RelevantRows


class PairRows(NamedTuple):
    """The rows of a batch's queries and documents."""

    queries: np.ndarray  # [B]
    documents: np.ndarray  # [B, K]; rows of -1 are padding
    relevant: np.ndarray | None = None  # [B, J] documents that are judged relevant to each query; rows of -1 are padding


class NegativeSampler:
    """Draws each example's negatives, anew in every epoch.

    They depend only on (seed, epoch, example): not on the number of ranks, and not on whether a training was resumed.

    Args:
        examples: positives, and pools to draw negatives from; documents judged relevant to the query are removed from its pool.
        relevant: rows of queries [M] and of documents [M] that are no negatives of these: all pairs with a grade above 0, own documents.
        documents: number of documents in the corpus.
        count: number of negatives of an example.
        seed: seed of the draws.
    """

    def __init__(self, examples: TrainingPairs, relevant: tuple[np.ndarray, np.ndarray], documents: int, count: int, seed: int):
        self.examples, self.documents, self.count, self.seed = examples, documents, count, seed
        queries = np.concatenate([relevant[0], examples.queries])
        answers = np.concatenate([relevant[1], examples.positives])
        # [M] each relevant pair as one number, query row * documents + document row, ascending
        self.relevant_pairs = np.unique(queries * documents + answers)
        query_count = int(examples.queries.max(initial=-1)) + 1
        self.relevant = RelevantRows(self.relevant_pairs // documents, self.relevant_pairs % documents, query_count)
        if count + self.relevant.most > documents:
            available = f"the corpus has {documents} documents, up to {self.relevant.most} of them relevant"
            raise BadInput(f"data.negatives_per_query: {count}, but {available}")
        pairs = examples.queries[:, None] * documents + examples.pools
        self.pools = np.where((examples.pools >= 0) & ~np.isin(pairs, self.relevant_pairs), examples.pools, -1)  # [E, P]

    def draw_candidates(self, rows: np.ndarray, epoch: int) -> np.ndarray:
        """Returns the documents [B, 1 + count] of examples [B]: the positive, then its negatives."""
        negatives = np.stack([self._draw_negatives(row, epoch) for row in rows.tolist()])
        return np.concatenate([self.examples.positives[rows][:, None], negatives], axis=1)

    def _draw_negatives(self, example: int, epoch: int) -> np.ndarray:
        """Draws negatives [count] from the example's pool, and from the whole corpus if the pool has too few."""
        random = np.random.default_rng([self.seed, epoch, example])
        pool = self.pools[example]
        chosen = random.permutation(np.unique(pool[pool >= 0]))[: self.count]
        first_pair = self.examples.queries[example] * self.documents
        while len(chosen) < self.count:
            more = random.integers(self.documents, size=2 * self.count)
            more = more[~self._are_relevant(first_pair + more) & ~np.isin(more, chosen)]
            first_places = np.sort(np.unique(more, return_index=True)[1])
            chosen = np.concatenate([chosen, more[first_places]])[: self.count]
        return chosen

    def _are_relevant(self, pairs: np.ndarray) -> np.ndarray:
        """Looks up a few pairs among all judged ones, which are sorted: `isin` would sort these again."""
        return np.searchsorted(self.relevant_pairs, pairs) < np.searchsorted(self.relevant_pairs, pairs, "right")
