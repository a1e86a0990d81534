"""Teachers whose vectors and scores are on disk: a batch costs a look-up in memory-mapped files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from distill.encoders.cross import unpack_scores_and_vectors
from distill.records import Batch, Encoded, TensorRecord, send
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

    def look_up(self, queries: np.ndarray) -> Tensor:
        """Returns the same as a tensor, on the host or on the device that computed it."""
        return torch.from_numpy(self.take(queries))


@dataclass(frozen=True)
class StoredVectors(TensorRecord):
    """The vectors of a batch's queries and candidates, in the number format of the disk."""

    queries: Tensor  # [B, D] float16
    documents: Tensor  # [B, K, D] float16


@dataclass(frozen=True)
class StoredRows(TensorRecord):
    """The rows of a batch's pairs, as they are on disk or in memory."""

    pairs: Tensor  # [B, K] scores, or [B, K, 1 + 2 D] scores and two vectors


Record = TypeVar("Record", bound=TensorRecord)


class LookUpTeacher(Generic[Record]):
    """A teacher that has all it knows on disk. A loader may look it up ahead of the training, in a thread of its own."""

    def look_up(self, batch: Batch) -> Record:
        """Returns what is on disk of a batch, in the number format of the disk and on the host."""
        raise NotImplementedError

    def read(self, batch: Batch) -> Record:
        """Returns what is on disk of a batch, on the device of the batch's tokens."""
        ahead: Record | None = batch.looked_up.get(self)  # type: ignore[assignment]
        return self.look_up(batch).to(batch.queries.input_ids.device) if ahead is None else ahead


class StoredTeacher(LookUpTeacher[StoredVectors]):
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

    def look_up(self, batch: Batch) -> StoredVectors:
        rows = batch.document_rows.numpy()  # [B, K]
        documents = self.documents.take(rows.ravel()).reshape(*rows.shape, self.width)  # [B, K, D]
        return StoredVectors(self.queries.look_up(batch.query_rows.numpy()), torch.from_numpy(documents))

    def __call__(self, batch: Batch) -> Encoded:
        """Looks up the vectors of the batch's queries and candidates by their rows."""
        stored = self.read(batch)
        rows = send(batch.document_rows, stored.queries.device)
        return score_candidates(stored.queries.float(), stored.documents.float(), rows)


class StoredPairs(LookUpTeacher[StoredRows]):
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

    def look_up(self, batch: Batch) -> StoredRows:
        rows = batch.query_rows.numpy()[:, None] * self.candidates + np.arange(self.candidates)  # [B, K]
        return StoredRows(torch.from_numpy(self.pairs.take(rows.ravel()).reshape(*rows.shape, -1)))  # [B, K, 1 + 2 D]

    def __call__(self, batch: Batch) -> Encoded:
        """Looks up scores [B, K], query vectors [B, K, D] and document vectors [B, K, D]; a vector depends on both texts of its pair."""
        packed = self.read(batch).pairs.float()  # [B, K, 1 + 2 D]
        scores, query, document = unpack_scores_and_vectors(packed)
        return Encoded(query, document, scores, send(batch.document_rows, packed.device))
