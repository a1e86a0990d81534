"""Teachers: a batch in, what the teacher says about it out. No gradient flows into them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from distill.encoders.cross import unpack_scores_and_vectors
from distill.records import Batch, Encoded
from distill.teachers.teacher import score_candidates
from distill.vectors.store import VectorStore


class StoredQueries:
    """Vectors of several query sets as one: row i is the i-th of all the training queries."""

    def __init__(self, stores: Sequence[VectorStore], rows: Sequence[np.ndarray]):
        self.stores = stores
        self.store_of = np.repeat(np.arange(len(stores)), [len(part) for part in rows])  # [N]
        self.rows = np.concatenate(list(rows))  # [N] row within that store

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, queries: np.ndarray) -> np.ndarray:
        """Vectors [n, D] float16 of the queries [n]."""
        vectors = np.empty((len(queries), self.stores[0].width), np.float16)
        owners = self.store_of[queries]
        for owner in np.unique(owners):
            here = owners == owner
            vectors[here] = self.stores[owner].take(self.rows[queries[here]])
        return vectors


class StoredTeacher:
    """A teacher whose vectors are on disk: each batch costs a look-up in memory-mapped files."""

    reads_pairs = False  # vectors of a query do not depend on the document

    def __init__(self, queries: StoredQueries, documents: VectorStore):
        self.queries = queries
        self.documents = documents
        self.cosines = documents.has_cosine_scores  # whether its scores are on the scale of cosines

    @property
    def width(self) -> int:
        return self.documents.width

    @property
    def stores(self) -> list[VectorStore]:
        return [self.documents, *self.queries.stores]

    def __call__(self, batch: Batch) -> Encoded:
        """Vectors of the batch's queries and candidates by their rows, float32, on the device of the batch's tokens."""
        device = batch.queries.input_ids.device
        queries = self.queries.take(batch.query_rows.numpy())  # [B, D]
        rows = batch.document_rows.numpy()  # [B, K]
        documents = self.documents.take(rows.ravel()).reshape(*rows.shape, self.documents.width)  # [B, K, D]
        query, document = (torch.from_numpy(vectors).to(device, torch.float32) for vectors in (queries, documents))
        return score_candidates(query, document, batch.document_rows.to(device))


class StoredPairs:
    """A cross encoder whose opinion of every query and its candidates is on disk.

    Args:
        parts: stores of pairs, their ids aside rows of score, query vector and document vector.
        rows: [n * K] rows of the pairs within each store, query after query; these follow one another as the training queries do.
        candidates: K.
    """

    reads_pairs = True
    cosines = False

    def __init__(self, parts: Sequence[VectorStore], rows: Sequence[np.ndarray], candidates: int):
        self.pairs = StoredQueries(parts, rows)
        self.candidates = candidates

    @property
    def width(self) -> int:
        """Of its vectors; 0 where it has scores only."""
        return self.pairs.stores[0].width // 2

    @property
    def stores(self) -> Sequence[VectorStore]:
        return self.pairs.stores

    def __call__(self, batch: Batch) -> Encoded:
        """Scores [B, K], query vectors [B, K, D] and document vectors [B, K, D]: each depends on the other text of its pair."""
        device = batch.queries.input_ids.device
        rows = batch.query_rows.numpy()[:, None] * self.candidates + np.arange(self.candidates)  # [B, K]
        stacked = self.pairs.take(rows.ravel()).reshape(*rows.shape, -1)
        scores, query, document = unpack_scores_and_vectors(torch.from_numpy(stacked).to(device, torch.float32))
        return Encoded(query, document, scores, batch.document_rows.to(device))


Teacher = StoredTeacher | StoredPairs  # who is learnt from
