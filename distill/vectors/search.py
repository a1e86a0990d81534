"""Top k over document vectors: exact on the device of the queries and in bounded memory, or as a faiss index has it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from distill.files.device import computes_bf16, fp32_products
from distill.files.progress import progress_bar
from distill.records import BadInput

if TYPE_CHECKING:
    import numpy as np

    from distill.vectors.store import VectorStore

# A chunk of documents is held three times, as stored, in fp32 and rounded: 100 MB on a CPU. The scores of a block of queries against it
# should stay in a CPU's cache until the best are selected; a GPU wants larger products.
NUMBERS_PER_CHUNK = {"cpu": 16 << 20, "cuda": 1 << 28}
SCORES_PER_BLOCK = {"cpu": 16 << 20, "cuda": 1 << 26}
MOST_ENTERING = 4  # times k: documents a query that rounded products may let in, before exact ones are cheaper


@runtime_checkable
class Index(Protocol):
    """A faiss index, as far as it is asked here; `distill.vectors.faiss_index` builds them."""

    d: int
    ntotal: int
    metric_type: int  # 0 is the inner product

    def search(self, x: np.ndarray, k: int, /) -> tuple[np.ndarray, np.ndarray]: ...


@torch.no_grad()
def search(
    queries: Tensor,
    documents: np.ndarray | Tensor | VectorStore | Index,
    k: int,
    chunk_documents: int | None = None,
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """The `k` documents of highest inner product with each query, in fp32 whatever the stored type or the mixed precision around.

    queries: [Q, D] on the device that does the work; documents: [N, D], an array, perhaps memory-mapped, a tensor or a store,
    of which `chunk_documents` are read at a time (by default as many as make 100 MB).
    Returns scores [Q, k] fp32, best first, and rows [Q, k] int64. Equal scores: the lower row first, also at the k-th place.
    With fewer than k documents the rest is row -1, score -inf. Raises BadInput on unlike widths and on NaN or infinite vectors.

    Where the device multiplies bf16 natively, products of rounded vectors say which documents can be among the best: those whose
    rounded score is not below the k-th by more than rounding can explain. Only these are scored in fp32, so nothing is missed.

    `documents` may be a faiss index by inner product too: it answers on its own device, as exactly as it was built to, and which of
    equal scores comes first is its choice.
    """
    if isinstance(documents, Index):
        return _ask(documents, queries, k)
    _check_shapes(queries, documents.shape[1], k)
    queries, device = queries.float(), queries.device
    _finite_lengths(queries, "query vectors", 0)
    best_scores = torch.full((len(queries), k), -torch.inf, device=device)  # [Q, k]
    best_rows = torch.full((len(queries), k), -1, device=device)  # [Q, k]
    chunk_documents = chunk_documents or _even(len(documents), NUMBERS_PER_CHUNK[device.type] // queries.shape[1])
    rounding = computes_bf16(device.type)
    queries_per_block = max(1, SCORES_PER_BLOCK[device.type] // chunk_documents)
    room = Room(min(chunk_documents, len(documents)), queries.shape[1], device)
    with fp32_products(device), progress_bar(total=len(documents), desc="search", unit=" documents", shown=progress) as bar:
        for start in range(0, len(documents), chunk_documents):
            chunk = room.take(documents[start : start + chunk_documents])  # [C, D]
            room.longest = _finite_lengths(chunk, "document vectors", start).amax()
            for block, *best in zip(*(each.split(queries_per_block) for each in (queries, best_scores, best_rows)), strict=True):
                places = _can_enter(block, room.rounded, room, best[0][:, -1:], k) if rounding else None
                if places is None:  # or so many that rounding only costs: vectors that are all alike
                    rounding = False
                    places = _can_enter(block, room.exact, room, best[0][:, -1:], k)
                assert places is not None  # exact products let in whatever there is
                query, column = places
                if len(query):
                    _enter(query, column + start, _scores(block, chunk, query, column), *best)
            bar.update(len(chunk))
    return best_scores, best_rows


class Room:
    """Where a chunk of documents lies in fp32 and rounded; taken once, as fresh memory of that size costs more than filling it.

    Behind the chunk's `count` rows lie some of no meaning, which make its scores a whole number of words (see _where_at_least).
    """

    count: int
    longest: Tensor  # length of the longest document

    def __init__(self, documents: int, width: int, device: torch.device):
        size = (-(-documents // 8) * 8, width)
        self.exact = torch.zeros(size, device=device)
        self.rounded = torch.zeros(size if computes_bf16(device.type) else (0, width), dtype=torch.bfloat16, device=device)

    def take(self, documents: np.ndarray | Tensor) -> Tensor:
        """`documents` [C, D] in fp32."""
        self.count = len(documents)
        if not isinstance(documents, Tensor):
            # rows of a read-only memory map are copied first: a tensor over them is one write away from a crash
            plain = documents.flags.writeable and documents.flags.c_contiguous
            documents = torch.from_numpy(documents if plain else documents.copy())
        exact = self.exact[: self.count].copy_(documents)
        if len(self.rounded):
            self.rounded[: self.count].copy_(exact)
        return exact


def _can_enter(queries: Tensor, documents: Tensor, room: Room, kth: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """Query and column [M] of each pair whose exact score may reach `kth` [B, 1], the k-th best so far, or the k-th of these scores.

    `documents` are the room's, in the number format of the products; None where these are rounded and let in more than can be used.
    """
    rounded = queries.to(documents.dtype)
    off = _off(queries, rounded, room.longest)
    words = -(-room.count // 8) * 8
    scores = rounded @ documents[:words].T  # [B, C]
    # who only equals the k-th so far may enter too: the lower row wins
    least = torch.maximum(kth, _below(_kth_or_less(scores[:, : room.count], k), scores.dtype) - off)
    scores[:, room.count :] = torch.nan  # reaches nothing
    most = len(queries) * max(MOST_ENTERING * k, room.count // 32) if scores.dtype == torch.bfloat16 else None
    return _where_at_least(scores, _below(least - off, scores.dtype).to(scores.dtype), most)


def _off(queries: Tensor, rounded: Tensor, longest: Tensor) -> Tensor:
    """[Q, 1]: how far products of `rounded` queries [Q, D] with documents rounded alike, `longest` at most, may be off.

    |q.d - q'.d'| <= |q - q'| |d| + |q'| |d - d'|, and a number is off by half an eps of itself at most.
    """
    of_query = (queries - rounded).norm(dim=1, keepdim=True)
    of_document = torch.finfo(rounded.dtype).eps / 2 * longest if rounded.dtype != torch.float32 else 0.0
    of_sum = queries.shape[1] * torch.finfo(torch.float32).eps * longest
    return of_query * longest + rounded.float().norm(dim=1, keepdim=True) * (of_document + of_sum)


def _below(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """No more than what becomes `scores` when rounded to `dtype`, and no more than what `scores` become."""
    return scores - 0.51 * torch.finfo(dtype).eps * scores.abs()


def _where_at_least(scores: Tensor, least: Tensor, most: int | None) -> tuple[Tensor, Tensor] | None:
    """Query and column of each score [B, C] from `least` [B, 1] up, ordered by query, then by column; overwrites the scores.

    Few are: to look at eight bytes at a time as one number, and only then at the scores in them, is several times faster. None where
    more than `most` words hold one.
    """
    reached = scores.ge_(least).unflatten(1, (-1, 8 // scores.element_size()))  # 1 or 0
    query, word = reached.view(torch.int64).squeeze(2).nonzero(as_tuple=True)
    if most is not None and len(query) > most:
        return None
    which, place = reached[query, word].nonzero(as_tuple=True)
    return query[which], word[which] * reached.shape[2] + place


def _scores(queries: Tensor, documents: Tensor, query: Tensor, column: Tensor) -> Tensor:
    """The fp32 inner products [M] of `queries` [B, D] and `documents` [C, D] at M places, ordered by query."""
    begins = torch.zeros(len(queries) + 1, dtype=torch.int64, device=queries.device)
    begins[1:] = query.bincount(minlength=len(queries)).cumsum(0)
    zeros, shape = torch.zeros_like(column, dtype=torch.float32), (len(queries), len(documents))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        places = torch.sparse_csr_tensor(begins, column, zeros, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(places, queries, documents.T, beta=0.0).values()


def _enter(query: Tensor, row: Tensor, score: Tensor, best_scores: Tensor, best_rows: Tensor) -> None:
    """Merges M scored documents, ordered by query, then by row, into the best so far [B, k], in place."""
    k = best_scores.shape[1]
    entering = query.bincount(minlength=len(best_scores))  # [B]
    place = torch.arange(len(query), device=query.device) - (entering.cumsum(0) - entering)[query]  # [M] among those of its query
    shape = (len(best_scores), int(entering.max()))
    new_scores = best_scores.new_full(shape, -torch.inf).index_put((query, place), score)
    new_rows = best_rows.new_full(shape, -1).index_put((query, place), row)
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
    return maxima.float().topk(k, sorted=False).values.amin(1, keepdim=True)


def _even(total: int, most: int) -> int:
    """The size of equal parts of `total`, each about `most`, in eights."""
    parts = max(1, -(-total // most))
    return max(1, -(-total // (8 * parts))) * 8


def _ask(index: Index, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What a faiss index finds, in the words of `search`: its missing hits score -3.4e38."""
    _check_shapes(queries, index.d, k)
    _finite_lengths(queries.float(), "query vectors", 0)
    if index.metric_type != 0:
        raise BadInput(f"the index ranks by faiss metric {index.metric_type}, not by inner product: build it with distill export --index")
    scores, rows = (torch.from_numpy(found) for found in index.search(queries.float().contiguous().cpu().numpy(), k))
    return scores.masked_fill(rows < 0, -torch.inf).to(queries.device), rows.to(queries.device)


def _check_shapes(queries: Tensor, width: int, k: int) -> None:
    if k < 1:
        raise BadInput(f"k is {k}: ask for at least 1 document")
    if queries.shape[1] != width:
        raise BadInput(f"query vectors are {queries.shape[1]} wide, document vectors {width}: use the encoder they belong to")


def _finite_lengths(vectors: Tensor, what: str, start: int) -> Tensor:
    """The length [N] of each of `vectors` [N, D]; refuses NaN and infinity, which survive in it."""
    lengths = vectors.norm(dim=1)
    for row in (~lengths.isfinite()).nonzero()[:1, 0].tolist():
        raise BadInput(f"{what}: row {start + row} has NaN or infinite values, or a length that is infinite in fp32: encode it again")
    return lengths
