"""Teachers whose vectors and scores are on disk: a batch costs a look-up in memory-mapped files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from distill.encoders.cross import unpack_scores_and_vectors
from distill.records import Batch, Encoded
from distill.teachers.teacher import score_candidates
from distill.vectors.store import VectorStore


class StoredQueries:
    """The vectors of several query sets, numbered one set after the other.

    Args:
        stores: one store for each set.
        rows: one array [n] for each set: the row of each of its queries in the store.
    """

    def __init__(self, stores: Sequence[VectorStore], rows: Sequence[np.ndarray]):
        self.stores = stores
        self.store_of = np.repeat(np.arange(len(stores)), [len(part) for part in rows])  # [N]
        self.rows = np.concatenate(list(rows))  # [N] row within that store

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, queries: np.ndarray) -> np.ndarray:
        """Returns the vectors [n, D] float16 of the queries [n]."""
        vectors = np.empty((len(queries), self.stores[0].width), np.float16)
        store_of = self.store_of[queries]  # [n]
        for number in np.unique(store_of):
            in_store = store_of == number  # [n]
            vectors[in_store] = self.stores[number].take(self.rows[queries[in_store]])
        return vectors


class StoredTeacher:
    """A dual encoder whose vectors are on disk.

    Args:
        queries: vectors of the training queries.
        documents: vectors of the corpus.
    """

    reads_pairs = False

    def __init__(self, queries: StoredQueries, documents: VectorStore):
        self.queries = queries
        self.documents = documents
        self.width = documents.width
        self.has_cosine_scores = documents.has_cosine_scores

    @property
    def stores(self) -> list[VectorStore]:
        return [self.documents, *self.queries.stores]

    def __call__(self, batch: Batch) -> Encoded:
        """Looks up the vectors of the batch's queries and candidates by their rows."""
        device = batch.queries.input_ids.device
        rows = batch.document_rows.numpy()  # [B, K]
        queries = self.queries.take(batch.query_rows.numpy())  # [B, D]
        documents = self.documents.take(rows.ravel()).reshape(*rows.shape, self.width)  # [B, K, D]
        query = torch.from_numpy(queries).to(device, torch.float32)
        document = torch.from_numpy(documents).to(device, torch.float32)
        return score_candidates(query, document, batch.document_rows.to(device))


class StoredPairs:
    """A cross encoder whose scores of every query's candidates, and its vectors if it has some, are on disk.

    Args:
        parts: stores of pairs; a row holds score, query vector and document vector.
        rows: one array [n * K] for each store: the rows of its pairs, query after query, in the order of the training queries.
        candidates: K, the number of candidates of each query.
    """

    reads_pairs = True
    has_cosine_scores = False

    def __init__(self, parts: Sequence[VectorStore], rows: Sequence[np.ndarray], candidates: int):
        self.pairs = StoredQueries(parts, rows)
        self.candidates = candidates
        self.width = parts[0].width // 2

    @property
    def stores(self) -> Sequence[VectorStore]:
        return self.pairs.stores

    def __call__(self, batch: Batch) -> Encoded:
        """Looks up scores [B, K], query vectors [B, K, D] and document vectors [B, K, D]; a vector depends on both texts of its pair."""
        device = batch.queries.input_ids.device
        rows = batch.query_rows.numpy()[:, None] * self.candidates + np.arange(self.candidates)  # [B, K]
        packed = self.pairs.take(rows.ravel()).reshape(*rows.shape, -1)  # [B, K, 1 + 2 D]
        scores, query, document = unpack_scores_and_vectors(torch.from_numpy(packed).to(device, torch.float32))
        return Encoded(query, document, scores, batch.document_rows.to(device))
