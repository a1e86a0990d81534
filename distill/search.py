"""Exact top k over stored document vectors, on the device of the queries, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from distill.records import BadInput

if TYPE_CHECKING:
    import numpy as np

    from distill.data.store import VectorStore

# Scores held at a time. A block of 8 MB stays in a CPU's cache between the product and its selection; a GPU wants larger products.
SCORES_PER_BLOCK = {"cpu": 1 << 21, "cuda": 1 << 27}


@torch.no_grad()
def search(
    queries: Tensor, documents: np.ndarray | Tensor | VectorStore, k: int, chunk_documents: int = 8192, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """The `k` documents of highest inner product with each query, in fp32 whatever the stored type or the mixed precision around.

    queries: [Q, D] on the device that does the work; documents: [N, D], an array, perhaps memory-mapped, a tensor or a store,
    of which `chunk_documents` are read at a time.
    Returns scores [Q, k] fp32, best first, and rows [Q, k] int64. Equal scores: the lower row first, also at the k-th place.
    With fewer than k documents the rest is row -1, score -inf. Raises BadInput on unlike widths and on NaN or infinite vectors.
    """
    _check_shapes(queries, documents, k)
    queries = _finite(queries.float(), "query vectors", 0)
    best_scores = torch.full((len(queries), k), -torch.inf, device=queries.device)  # [Q, k]
    best_rows = torch.full((len(queries), k), -1, device=queries.device)  # [Q, k]
    queries_per_block = max(1, SCORES_PER_BLOCK.get(queries.device.type, 1 << 24) // chunk_documents)
    with _full_precision(queries.device), tqdm(total=len(documents), unit="doc", desc="search", disable=None if progress else True) as bar:
        for start in range(0, len(documents), chunk_documents):
            chunk = _finite(_on_device(documents[start : start + chunk_documents], queries.device), "document vectors", start)  # [C, D]
            for block, *best in zip(*(each.split(queries_per_block) for each in (queries, best_scores, best_rows)), strict=True):
                _enter(block @ chunk.T, start, *best)
            bar.update(len(chunk))
    return best_scores, best_rows


def _enter(scores: Tensor, start: int, best_scores: Tensor, best_rows: Tensor) -> None:
    """Merges the scores [B, C] of documents start.. into the best so far [B, k], in place, sorting only what can enter."""
    k = best_scores.shape[1]
    # whoever only equals the k-th so far enters too, and loses to its lower row in the sort
    least = torch.maximum(best_scores[:, -1:], _kth_or_less(scores, k))  # [B, 1]
    query, column = (scores >= least).nonzero(as_tuple=True)  # [M], [M]: ordered by query, then by column
    if not len(query):
        return
    entering = query.bincount(minlength=len(scores))  # [B]
    place = torch.arange(len(query), device=query.device) - (entering.cumsum(0) - entering)[query]  # [M] among those of its query
    shape = (len(scores), int(entering.max()))
    new_scores = scores.new_full(shape, -torch.inf).index_put((query, place), scores[query, column])
    new_rows = best_rows.new_full(shape, -1).index_put((query, place), column + start)
    # rows ascend among equal scores on both sides and the best so far come from lower rows: a stable sort keeps that
    ordered, order = torch.cat([best_scores, new_scores], 1).sort(dim=1, descending=True, stable=True)
    best_rows.copy_(torch.cat([best_rows, new_rows], 1).gather(1, order[:, :k]))
    best_scores.copy_(ordered[:, :k])


def _kth_or_less(scores: Tensor, k: int) -> Tensor:
    """[B, 1]: a score that at least `k` of each row of [B, C] reach, close to the k-th best; -inf where C < k.

    The k-th best of the maxima of disjoint groups is such a score, and the maxima are many times fewer than the scores.
    """
    columns = scores.shape[1]
    if columns < k:
        return scores.new_full((len(scores), 1), -torch.inf)
    per_group = max(1, columns // (4 * k))
    maxima = scores[:, : columns // per_group * per_group].unflatten(1, (per_group, -1)).amax(1)  # [B, at least k]
    return maxima.topk(k, sorted=False).values.amin(1, keepdim=True)


def _check_shapes(queries: Tensor, documents: np.ndarray | Tensor | VectorStore, k: int) -> None:
    if k < 1:
        raise BadInput(f"k is {k}: ask for at least 1 document")
    if queries.shape[1] != documents.shape[1]:
        raise BadInput(f"query vectors are {queries.shape[1]} wide, document vectors {documents.shape[1]}: use the encoder they belong to")


def _on_device(chunk: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """[C, D] fp32. Stored rows are copied first: a tensor over a read-only memory map is one write away from a crash."""
    return (chunk if isinstance(chunk, Tensor) else torch.from_numpy(chunk.copy())).to(device).float()


def _finite(vectors: Tensor, what: str, start: int) -> Tensor:
    """`vectors` [N, D] as they are. One sum tells: NaN and infinity survive addition."""
    if not vectors.sum().isfinite():
        for row in (~vectors.isfinite().all(1)).nonzero()[:1, 0].tolist():
            raise BadInput(f"{what}: row {start + row} has NaN or infinite values: encode it again")
    return vectors


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """fp32 products whatever training has set: TF32 or bf16 scores change the ranking."""
    before = torch.get_float32_matmul_precision()
    quick = device.type == "cpu" and _medium_is_exact()
    torch.set_float32_matmul_precision("medium" if quick else "highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _medium_is_exact() -> bool:
    """Whether "medium" only selects oneDNN here, up to twice as fast; on a CPU with AMX it rounds to bf16 instead."""
    left, right = torch.randn(2, 256, 384, generator=torch.Generator().manual_seed(0)).unbind()
    exact, before = left.double() @ right.double().T, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    error = (left @ right.T - exact).abs().max() / exact.abs().max()
    torch.set_float32_matmul_precision(before)
    return float(error) < 1e-6
