"""Rules out, by products of rounded vectors, the documents that cannot be among a query's top k; none of the top k is missed.

Why. Exact search needs the k highest inner products in fp32. A processor that multiplies bf16 natively does that many times faster, but
bf16 keeps 8 bits of a number, and a ranking by such scores is wrong in many places. So the fast scores only decide which documents are
worth an exact score. Usually that is a few in a thousand, and computing those one by one costs next to nothing.

How far off a fast score can be. Let q be a query and d a document in fp32, q' and d' the same rounded, and eps the distance from 1 to
the next number of the rounded format (2^-7 for bf16): rounding a number changes it by half an eps of itself at most.

    |q.d - q'.d'| = |(q - q').d + q'.(d - d')| <= |q - q'| |d| + |q'| |d - d'|        (Cauchy-Schwarz)

|q - q'| is computed for each query. |d| is not more than the length of the longest document of the chunk, and |d - d'| not more than
half an eps of that. A device sums the D terms of a product in fp32 and in an order of its own, here and in the exact score, which adds D
fp32-eps of |q'| |d|. `product_error` is the sum of these three: a number for each query. At the end the device rounds the sum itself to
bf16. `lower_end` goes half an eps of the number further down, and a hundredth of an eps more for what is lost in computing it.

Which documents cannot be among the top k. Let m be a fast score that at least k documents of the chunk reach (`kth_or_less`). Each of
these has an exact score of lower_end(m) - error or more. So the k-th best exact score of the chunk is not below that, and the k-th best
of the whole corpus is neither below that nor below the k-th best exact score so far. The higher of the two is `least`. A document whose
exact score reaches `least` has a product of rounded vectors of `least - error` or more, and a fast score, which is that product rounded,
of `lower_end(least - error)` or more. Every document whose fast score is lower can therefore be left out. Those that only equal the
k-th best so far stay in, as among equal scores the lower row wins.

When it does not pay. Documents that are nearly all alike, as those of an untrained encoder, have fast scores closer together than
their error. When more of them come through than exact scores would cost, the fast ones are given up for the rest of the search.
The same functions then run on fp32 vectors: q' = q and d' = d, and what remains of the error is the order of the sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.files.device import has_fast_bf16
from distill.vectors.chunk import ROWS_PER_WORD, Chunk

# Rounded products may let through 4 k documents a query or one in 32, whichever is more; beyond that fp32 products are cheaper.
CANDIDATES_PER_K = 4
DOCUMENTS_PER_CANDIDATE = 32

Words = tuple[Tensor, Tensor]  # queries [V] and numbers [V] of V words of a mask, ordered by query, then by number


class Places(NamedTuple):
    """M pairs of one of B queries and a column, ordered by query, then by column."""

    query: Tensor  # [M]
    column: Tensor  # [M]
    begins: Tensor  # [B + 1] pairs of the queries before each one; the last is M
    most: int  # pairs of the query that has most


class Preselection:
    """Finds the pairs of a query and a document of a chunk whose exact score may be among the query's top `k`."""

    def __init__(self, k: int, device: torch.device):
        self.k = k
        self.rounds = has_fast_bf16(device.type)  # False once rounded products let too many documents through

    def find(self, queries: Tensor, chunk: Chunk, kth_best: Tensor) -> Places:
        """Returns the candidates of a block of queries.

        Args:
            queries: [B, D] float32.
            chunk: C documents.
            kth_best: [B, 1] each query's k-th best exact score so far.
        """
        if self.rounds:
            mask = candidate_mask(queries, chunk.rounded_documents, chunk, kth_best, self.k)
            words = words_with_candidates(mask)
            most = max(CANDIDATES_PER_K * self.k, chunk.count // DOCUMENTS_PER_CANDIDATE)
            if len(words[0]) <= len(queries) * most:
                return unpack_places(mask, words)
            self.rounds = False
        mask = candidate_mask(queries, chunk.padded_documents, chunk, kth_best, self.k)
        return unpack_places(mask, words_with_candidates(mask))


def candidate_mask(queries: Tensor, documents: Tensor, chunk: Chunk, kth_best: Tensor, k: int) -> Tensor:
    """Marks the pairs whose exact score may reach the k-th best: 1 there, else 0.

    Args:
        queries: [B, D] float32.
        documents: [C and padding, D] the chunk's documents in the number format of the products.
        chunk: the chunk, which knows the number and the longest of its documents.
        kth_best: [B, 1] each query's k-th best exact score so far.
        k: documents to find for each query.

    Returns:
        [B, W, 8 / S]: W words of 8 bytes a query, each holding the 0 or 1 of as many documents as fit, of S bytes each.
    """
    rounded = queries.to(documents.dtype)
    error = product_error(queries, rounded, chunk.longest)  # [B, 1]
    scores = rounded @ documents.T  # [B, C and padding]
    least = torch.maximum(kth_best, lower_end(kth_or_less(scores[:, : chunk.count], k), scores.dtype) - error)  # [B, 1]
    scores[:, chunk.count :] = torch.nan  # padding reaches nothing
    threshold = lower_end(least - error, scores.dtype).to(scores.dtype)
    return scores.ge_(threshold).unflatten(1, (-1, ROWS_PER_WORD // scores.element_size()))  # in place: memory is what this costs


def product_error(queries: Tensor, rounded: Tensor, longest: Tensor) -> Tensor:
    """Returns an upper bound [B, 1] of the error that rounding the vectors makes in their products.

    Args:
        queries: [B, D] float32.
        rounded: [B, D] the same queries in the number format of the products, to which the documents are rounded too.
        longest: length of the longest document.
    """
    of_query = (queries - rounded).norm(dim=1, keepdim=True)
    of_document = torch.finfo(rounded.dtype).eps / 2 * longest if rounded.dtype != torch.float32 else 0.0
    of_sum = queries.shape[1] * torch.finfo(torch.float32).eps * longest
    return of_query * longest + rounded.float().norm(dim=1, keepdim=True) * (of_document + of_sum)


def lower_end(scores: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a lower bound of all numbers that round to `scores` in `dtype`, and of the number that `scores` round to."""
    return scores - 0.51 * torch.finfo(dtype).eps * scores.abs()


def kth_or_less(scores: Tensor, k: int) -> Tensor:
    """Returns a score [B, 1] that at least `k` of each row of [B, C] reach, close to the k-th best; -inf where C < k.

    The k-th best of the maxima of disjoint groups is such a score, and the maxima are many times fewer than the scores.

    >>> kth_or_less(torch.tensor([[5.0, 1.0, 4.0, 2.0]]), k=2)
    tensor([[4.]])
    """
    columns = scores.shape[1]
    if columns < k:
        return scores.new_full((len(scores), 1), -torch.inf)
    per_group = max(1, columns // (4 * k))
    maxima = scores[:, : columns // per_group * per_group].unflatten(1, (per_group, -1)).amax(1)  # [B, at least k]
    return maxima.float().topk(k, sorted=False).values.amin(1, keepdim=True)


def words_with_candidates(mask: Tensor) -> Words:
    """Finds the words of a mask [B, W, n] that hold a 1; returns the query [V] and the number [V] of each.

    Candidates are few: to compare eight bytes at once with 0, as one number, is several times faster than one byte after the other.
    """
    query, word = mask.view(torch.int64).squeeze(2).nonzero(as_tuple=True)
    return query, word


def unpack_places(mask: Tensor, words: Words) -> Places:
    """Returns the places of each 1 in a mask [B, W, n]; `words` are those that hold one.

    The host waits for a GPU once, for both numbers that it has to know.
    """
    query, word = words
    per_word = mask.shape[2]
    ones = mask[query, word] != 0  # [V, n]
    ones_before = F.pad(ones.sum(1).cumsum(0), (1, 0))  # [V + 1] of the words before each one
    first_words = torch.searchsorted(query.contiguous(), torch.arange(len(mask) + 1, device=mask.device))  # [B + 1]
    begins = ones_before[first_words]  # [B + 1]
    count, most = torch.stack([begins[-1], begins.diff().amax()]).tolist()
    places = find_ones(ones.flatten(), count)  # [M]
    which = places // per_word
    return Places(query[which], word[which] * per_word + places % per_word, begins, most)


def find_ones(ones: Tensor, count: int) -> Tensor:
    """Returns the places [M] of the M = `count` ones of [L] bool; the host does not wait for a GPU to count them again.

    >>> find_ones(torch.tensor([False, True, False, True]), count=2).tolist()
    [1, 3]
    """
    if ones.device.type == "cpu":
        return ones.nonzero().squeeze(1)
    return torch.searchsorted(ones.cumsum(0), torch.arange(1, count + 1, device=ones.device))
