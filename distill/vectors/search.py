"""The top k documents of each query by inner product: exact and in bounded memory, or as a faiss index finds them."""

from __future__ import annotations

import warnings
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from distill.files.device import best_device, fp32_products
from distill.files.progress import progress_bar
from distill.records import BadInput
from distill.vectors.chunk import ROWS_PER_WORD, Chunk, array_to_tensor, finite_lengths
from distill.vectors.resident import read_chunks
from distill.vectors.rounding import Places, Preselection
from distill.vectors.stream import Vectors

# A chunk of documents is in memory three times, as stored, in fp32 and rounded: 100 MB on a CPU. The scores of a block of queries
# against it should stay in a CPU's cache until the best are selected; a GPU wants large products, and few blocks, as the host waits for
# each twice: 3,000 queries against 90,000 documents of width 768 are one.
NUMBERS_PER_CHUNK = {"cpu": 16 << 20, "cuda": 1 << 26}
SCORES_PER_BLOCK = {"cpu": 16 << 20, "cuda": 1 << 28}
INNER_PRODUCT = 0  # faiss's number of that metric


@runtime_checkable
class FaissIndex(Protocol):
    """What `search` uses of a faiss index; `distill.vectors.faiss_index` builds them."""

    d: int
    ntotal: int
    metric_type: int

    def search(self, x: np.ndarray, k: int, /) -> tuple[np.ndarray, np.ndarray]: ...


Documents = Vectors | FaissIndex


@overload
def search(
    queries: Tensor,
    documents: Documents,
    k: int,
    chunk_documents: int | None = None,
    progress: bool = False,
    left_out: np.ndarray | Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...
@overload
def search(
    queries: np.ndarray,
    documents: Documents,
    k: int,
    chunk_documents: int | None = None,
    progress: bool = False,
    left_out: np.ndarray | Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]: ...
@torch.no_grad()
def search(
    queries: Tensor | np.ndarray,
    documents: Documents,
    k: int,
    chunk_documents: int | None = None,
    progress: bool = False,
    left_out: np.ndarray | Tensor | None = None,
) -> tuple[Tensor, Tensor] | tuple[np.ndarray, np.ndarray]:
    """Finds the `k` documents of highest inner product with each query, in fp32 also where vectors are stored in fp16.

    Among equal scores the lower row comes first, also at the k-th place. Where the device multiplies bf16 natively, products of rounded
    vectors first rule out what cannot be among the best; `distill.vectors.rounding` shows that nothing is missed.

    Args:
        queries: [Q, D]; a tensor is searched for on its device, an array on the best one.
        documents: [N, D], an array, perhaps memory-mapped, a tensor or a store; or a faiss index by inner product, which searches on its
            own device, is as exact as it was built, and has its own order of equal scores.
        k: documents to find for each query.
        chunk_documents: documents to read at a time, by default 100 MB of them.
        progress: whether to show a progress bar.
        left_out: [Q] int64, the row of a document that is not to be found for each query, -1 for none; None for no query.

    Returns:
        Scores [Q, k] float32, best first, and rows [Q, k] int64, as arrays where `queries` is one. With fewer than `k` documents the
        rest are rows of -1 and scores of -inf.

    Raises:
        BadInput: widths differ, or a vector holds NaN or infinity.

    >>> scores, rows = search(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]]), k=2)
    >>> rows.tolist(), scores.tolist()
    ([[1, 2]], [[2.0, 1.0]])
    """
    _refuse_other_types(queries, documents)
    if isinstance(queries, np.ndarray):
        scores, rows = search(array_to_tensor(queries).to(best_device()), documents, k, chunk_documents, progress, left_out)
        return scores.cpu().numpy(), rows.cpu().numpy()
    if left_out is not None and k > 0:
        scores, rows = search(queries, documents, k + 1, chunk_documents, progress)
        return drop_document(scores, rows, torch.as_tensor(left_out, device=queries.device))
    if isinstance(documents, FaissIndex):
        return search_index(queries, documents, k)
    return search_exactly(queries, documents, k, chunk_documents, progress)


def _refuse_other_types(queries: Any, documents: Any) -> None:
    if len(getattr(queries, "shape", ())) != 2:
        raise BadInput("queries: give vectors [Q, D], an array or a tensor, e.g. of encoder.encode_query(texts)")
    if not hasattr(documents, "shape") and not isinstance(documents, FaissIndex):
        raise BadInput("documents: give vectors [N, D], a VectorStore (the `documents` of a TeacherStore) or a faiss index")


def search_exactly(
    queries: Tensor, documents: Vectors, k: int, chunk_documents: int | None = None, progress: bool = False, first_row: int = 0
) -> tuple[Tensor, Tensor]:
    """Reads the documents chunk by chunk, and merges each chunk's candidates into the best of every query so far.

    The arguments are those of `search`, and `first_row`: the row that the first of the documents has in the corpus.
    """
    check_shapes(queries, documents.shape[1], k)
    queries, device = queries.float(), queries.device
    finite_lengths(queries, "query vectors")
    best_scores = torch.full((len(queries), k), -torch.inf, device=device)  # [Q, k]
    best_rows = torch.full((len(queries), k), -1, device=device)  # [Q, k]
    chunk_size = chunk_documents or split_evenly(len(documents), NUMBERS_PER_CHUNK[device.type] // queries.shape[1])
    block_size = max(1, SCORES_PER_BLOCK[device.type] // chunk_size)  # queries
    chunk = Chunk(min(chunk_size, len(documents)), queries.shape[1], device)
    preselection = Preselection(k, device)
    with fp32_products(device), progress_bar(total=len(documents), desc="search", unit=" documents", shown=progress) as bar:
        done = 0
        for part in read_chunks(documents, chunk_size, device):
            chunk.load(part, first_row + done)
            for first in range(0, len(queries), block_size):
                block = slice(first, first + block_size)
                search_chunk(queries[block], chunk, preselection, best_scores[block], best_rows[block])
            bar.update(chunk.count)
            done += chunk.count
            if device.type == "cpu" or done == len(documents):  # a GPU is not waited for before
                refuse_non_finite(chunk, documents, chunk_size, first_row)
    return best_scores, best_rows


def refuse_non_finite(chunk: Chunk, documents: Vectors, chunk_size: int, first_row: int) -> None:
    """Refuses NaN and infinity in any document that the chunk has held so far, and names the row of the first."""
    if not chunk.all_finite():
        for start in range(0, len(documents), chunk_size):
            part = documents[start : start + chunk_size]
            tensor = part if isinstance(part, Tensor) else array_to_tensor(part)
            finite_lengths(tensor.float(), "document vectors", first_row + start)


def search_chunk(queries: Tensor, chunk: Chunk, preselection: Preselection, best_scores: Tensor, best_rows: Tensor) -> None:
    """Updates the best scores [B, k] and rows [B, k] of a block of queries [B, D] by a chunk's documents, in place."""
    places = preselection.find(queries, chunk, best_scores[:, -1:])
    if places.most:
        scores = score_places(queries, chunk.documents, places)
        merge_best(places, chunk.start, scores, best_scores, best_rows)


def score_places(queries: Tensor, documents: Tensor, places: Places) -> Tensor:
    """Computes the fp32 inner products [M] of M pairs of `queries` [B, D] and `documents` [C, D].

    A pair has the same score in every chunk and block; the result of a matrix product depends on the size of both.
    """
    zeros = torch.zeros_like(places.column, dtype=torch.float32)
    shape = (len(queries), len(documents))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        pattern = torch.sparse_csr_tensor(places.begins, places.column, zeros, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(pattern, queries, documents.T, beta=0.0).values()


def merge_best(places: Places, start: int, scores: Tensor, best_scores: Tensor, best_rows: Tensor) -> None:
    """Merges M documents with scores [M] into the best so far [B, k], in place; column 0 is row `start` of the corpus."""
    k = best_scores.shape[1]
    # [M] number of each document among those of its query
    numbers = torch.arange(len(places.query), device=scores.device) - places.begins[places.query]
    shape = (len(best_scores), places.most)
    new_scores = best_scores.new_full(shape, -torch.inf).index_put((places.query, numbers), scores)
    new_rows = best_rows.new_full(shape, -1).index_put((places.query, numbers), places.column + start)
    # rows ascend among equal scores on both sides and the best so far come from lower rows: a stable sort keeps that
    ordered, order = torch.cat([best_scores, new_scores], 1).sort(dim=1, descending=True, stable=True)
    best_rows.copy_(torch.cat([best_rows, new_rows], 1).gather(1, order[:, :k]))
    best_scores.copy_(ordered[:, :k])


def drop_document(scores: Tensor, rows: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the first k of k + 1 documents of each query that are not its `left_out` one, as scores [Q, k] and rows [Q, k].

    >>> scores, rows = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([[7, 8, 9], [7, 8, 9]])
    >>> drop_document(scores, rows, left_out=torch.tensor([8, -1]))[1].tolist()
    [[7, 9], [7, 8]]
    """
    k = rows.shape[1] - 1
    passed = (rows == left_out[:, None]).cumsum(1).clamp(max=1)[:, :k]  # 1 from the place of the left-out document on
    places = torch.arange(k, device=rows.device) + passed
    return scores.gather(1, places), rows.gather(1, places)


def split_evenly(total: int, most: int) -> int:
    """Returns the size of equal parts of `total`, each about `most`, as a multiple of ROWS_PER_WORD.

    >>> split_evenly(100, 60)
    56
    """
    parts = max(1, -(-total // most))
    return max(1, -(-total // (ROWS_PER_WORD * parts))) * ROWS_PER_WORD


def search_index(queries: Tensor, index: FaissIndex, k: int) -> tuple[Tensor, Tensor]:
    """Searches a faiss index; returns what `search` does."""
    check_shapes(queries, index.d, k)
    queries, device = queries.float(), queries.device
    finite_lengths(queries, "query vectors")
    if index.metric_type != INNER_PRODUCT:
        raise BadInput(f"the index ranks by faiss metric {index.metric_type}, not by inner product: build it with distill export --index")
    found_scores, found_rows = index.search(queries.contiguous().cpu().numpy(), k)
    scores, rows = torch.from_numpy(found_scores), torch.from_numpy(found_rows)
    return scores.masked_fill(rows < 0, -torch.inf).to(device), rows.to(device)  # a missing hit scores -3.4e38 in faiss


def check_shapes(queries: Tensor, width: int, k: int) -> None:
    """Refuses k below 1, and queries and documents of different widths."""
    if k < 1:
        raise BadInput(f"k is {k}: ask for at least 1 document")
    if queries.shape[1] != width:
        raise BadInput(f"query vectors are {queries.shape[1]} wide, document vectors {width}: use the encoder they belong to")
