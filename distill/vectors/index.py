"""`Index`: document vectors that exist already, with their ids, as the index of a search engine holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors.chunk import finite_lengths
from distill.vectors.import_formats import check_ids, open_vectors
from distill.vectors.search import search
from distill.vectors.store import VectorStore
from distill.vectors.vector_files import GivenIds, VectorFiles, open_array

ROWS_PER_BATCH = 65_536


class Index:
    """N document vectors of width D that exist, their ids, and the teacher that made them.

    Vectors in files stay there: a search reads them batch by batch.

    Args:
        vectors: an array [N, D]; or a `.npy` or `.parquet` file, a folder of either, or a flat faiss index; or a store, which has ids.
        ids: N ids, in the order of the vectors: a list, or a text file with an id a line; for parquet the name of the id column. A faiss
            index with ids of its own (IndexIDMap) needs none.
        teacher: folder or hub name of the model that made the vectors, where it is known.

    Attributes:
        files: the vectors and their ids, batch by batch.

    Raises:
        BadInput: ids are missing, repeated, or not as many as vectors, or there is no table of floats.

    >>> index = Index(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), ["a", "b", "c"], teacher="acme/teacher")
    >>> index
    Index(3 vectors, 2 wide, by acme/teacher)
    >>> index.search(np.array([[0.0, 2.0]], np.float32), k=2)[1]
    [['b', 'c']]
    """

    def __init__(
        self, vectors: np.ndarray | str | Path | VectorStore, ids: Sequence[str] | str | Path | None = None, teacher: str | None = None
    ):
        self.files = _open(vectors, str(ids) if isinstance(ids, Path) else ids)
        self.teacher = teacher

    def __len__(self) -> int:
        return self.files.rows

    @property
    def width(self) -> int:
        """D."""
        return self.files.width

    @property
    def ids(self) -> Ids:
        """N ids, in the order of the vectors."""
        return self.files.ids

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, list[list[str]]]:
        """Finds the `k` documents of highest inner product with each query; exact, in fp32.

        Args:
            queries: [Q, D] vectors of queries; a single vector [D] counts as one row.
            k: documents to find for each query; all of them where there are fewer.

        Returns:
            Scores [Q, k] float32, best first, and for each query the ids of these documents.

        Raises:
            BadInput: widths differ, or a vector holds NaN or infinity.
        """
        queries, k = np.atleast_2d(queries), min(k, len(self))
        best_scores = np.empty((len(queries), 0), np.float32)
        best_rows = np.empty((len(queries), 0), np.int64)
        start = 0
        for vectors in self.files.batches(ROWS_PER_BATCH):
            try:
                scores, rows = search(queries, vectors, min(k, len(vectors)))
            except BadInput:
                finite_lengths(torch.from_numpy(vectors).float(), "document vectors", start)  # names the row in the whole index
                raise
            best_scores = np.concatenate([best_scores, scores], axis=1)
            best_rows = np.concatenate([best_rows, rows + start], axis=1)
            # among equal scores a stable sort keeps the lower row first
            order = np.argsort(-best_scores, axis=1, kind="stable")[:, :k]
            best_scores = np.take_along_axis(best_scores, order, axis=1)
            best_rows = np.take_along_axis(best_rows, order, axis=1)
            start += len(vectors)
        return best_scores, [[self.ids[row] for row in rows] for rows in best_rows]

    def __repr__(self) -> str:
        teacher = "" if self.teacher is None else f", by {self.teacher}"
        return f"Index({len(self)} vectors, {self.width} wide{teacher})"


def _open(vectors: np.ndarray | str | Path | VectorStore, ids: GivenIds) -> VectorFiles:
    if isinstance(vectors, VectorStore):
        return _open_store(vectors)
    if isinstance(vectors, str | Path):
        return open_vectors(str(vectors), ids)
    files = open_array(vectors, ids)
    check_ids(files, ids if isinstance(ids, str) else None)
    return files


def _open_store(store: VectorStore) -> VectorFiles:
    def read(size: int) -> Iterator[np.ndarray]:
        return (store[start : start + size] for start in range(0, len(store), size))

    return VectorFiles(str(store.folder), len(store), store.width, store.ids, read)
