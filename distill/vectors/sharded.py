"""Search on several ranks: each reads its share of the documents, and the best of all shares are merged."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from distill.files.ranks import gather_rows, max_over_ranks, rank, world_size
from distill.records import BadInput
from distill.vectors.search import drop_document, search, search_exactly
from distill.vectors.stream import StoredRows, Vectors


class StoreRows:
    """The rows from `start` to `stop` of a store, read as documents of their own."""

    def __init__(self, store: StoredRows, start: int, stop: int):
        self._store, self._start = store, start
        self.shape = stop - start, store.shape[1]
        self.identity = f"{store.identity}, rows {start} to {stop}"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        return self._store[self._start + start : self._start + stop]

    def read(self, start: int, into: np.ndarray) -> None:
        """Fills `into` [n, D] with the rows from `start` on."""
        self._store.read(self._start + start, into)


def search_on_ranks(queries: Tensor, documents: Vectors, k: int, left_out: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """Finds what `search` finds, where each rank has queries of its own.

    Every rank must call it with the same documents and `k`; it may have any number of queries, or none.

    Args:
        queries: [Q, D] this rank's queries, on its device.
        documents: [N, D] the same on all ranks.
        k: documents to find for each query.
        left_out: [Q] row of a document that is not to be found for each query, -1 for none; on all ranks or on none.

    Returns:
        Scores [Q, k] and rows [Q, k] of this rank's queries, as `search` does.
    """
    if world_size() == 1:
        return search(queries, documents, k, left_out=left_out)
    counts = gather_rows(torch.tensor([len(queries)], device=queries.device)).tolist()
    rows_left_out = None if left_out is None else gather_rows(torch.as_tensor(left_out, device=queries.device))
    scores, rows = search_shares(gather_rows(queries), documents, k, rows_left_out)
    first = sum(counts[: rank()])
    own = slice(first, first + len(queries))
    return scores[own], rows[own]


def search_shares(queries: Tensor, documents: Vectors, k: int, left_out: np.ndarray | Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Finds what `search` finds, where all ranks have the same queries.

    Every rank must call it with the same arguments, those of `search_on_ranks`.

    Raises:
        BadInput: on all ranks, where one cannot search its share.
    """
    if world_size() == 1:
        return search(queries, documents, k, left_out=left_out)
    if left_out is not None:
        scores, rows = search_shares(queries, documents, k + 1)
        return drop_document(scores, rows, torch.as_tensor(left_out, device=queries.device))
    start, stop = (len(documents) * part // world_size() for part in (rank(), rank() + 1))
    error: Exception | None = None
    try:
        scores, rows = search_exactly(queries, take_share(documents, start, stop), k, first_row=start)
    except Exception as raised:  # any error, e.g. of a disk or of memory that only this rank has
        error = raised
    if max_over_ranks(int(error is not None), queries.device):  # the others would wait for this one's best documents
        raise error or BadInput("another rank could not search its share of the documents: see its message")
    return merge_shares(gather_rows(scores[None]), gather_rows(rows[None]))


def take_share(documents: Vectors, start: int, stop: int) -> Vectors:
    """The rows from `start` to `stop`, of which nothing is read yet."""
    if isinstance(documents, np.ndarray | Tensor):
        return documents[start:stop]
    return StoreRows(documents, start, stop)


def merge_shares(scores: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Merges the best of R shares, whose rows ascend, into the best of all: scores [Q, k] and rows [Q, k].

    Args:
        scores: [R, Q, k], best first.
        rows: [R, Q, k]; rows of -1 are padding, with scores of -inf.

    >>> scores, rows = merge_shares(torch.tensor([[[3.0, 1.0]], [[3.0, 2.0]]]), torch.tensor([[[4, 0]], [[5, 9]]]))
    >>> rows.tolist()
    [[4, 5]]
    """
    k = scores.shape[2]
    # lower rows come first among equal scores within a share and from share to share: a stable sort keeps that
    ordered, order = scores.transpose(0, 1).flatten(1).sort(dim=1, descending=True, stable=True)
    return ordered[:, :k], rows.transpose(0, 1).flatten(1).gather(1, order[:, :k])
