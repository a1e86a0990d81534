"""Many texts or pairs as batches of near-equal length: no time is lost on padding, and memory is that of one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from distill.encoders.batching import length_batches
from distill.encoders.cross import CrossEncoder
from distill.encoders.pair_tokens import PairTokens
from distill.records import Tokens
from distill.texts.tokens import TokenArrays

Batched = TypeVar("Batched", Tokens, PairTokens)


@dataclass(frozen=True)
class Chunks(Generic[Batched]):
    """N texts or pairs, sorted by length into batches."""

    batches: list[Batched]
    places: Tensor  # [N] int64: where among all the batches' rows, one after the other, each text is

    def to(self, device: torch.device, **kwargs) -> Chunks[Batched]:
        return Chunks([batch.to(device, **kwargs) for batch in self.batches], self.places.to(device, **kwargs))

    def each(self, function: Callable[[Batched], Tensor]) -> Tensor:
        """[N, ...]: what `function` makes of every text, in their order."""
        return torch.cat([function(batch) for batch in self.batches])[self.places]


def make_chunks(lengths: Sequence[int], tokens_per_chunk: int, batch: Callable[[np.ndarray], Batched]) -> Chunks[Batched]:
    """`batch` makes one of rows [n]; each has up to `tokens_per_chunk` tokens, padding included, or is a single text."""
    parts: list[np.ndarray] = list(length_batches(lengths, tokens_per_chunk))
    order = np.concatenate([np.empty(0, np.int64), *parts])
    return Chunks([batch(rows) for rows in parts], torch.from_numpy(np.argsort(order, kind="stable")))


def chunk_texts(tokens: TokenArrays, rows: np.ndarray, tokens_per_chunk: int) -> Chunks[Tokens]:
    """The texts in `rows` [N]."""
    return make_chunks(tokens.lengths[rows].tolist(), tokens_per_chunk, lambda part: tokens.batch(rows[part]))


def chunk_pairs(
    encoder: CrossEncoder, queries: Sequence[np.ndarray], documents: Sequence[np.ndarray], tokens_per_chunk: int
) -> Chunks[PairTokens]:
    """N pairs of token ids of texts alone."""
    longest = encoder.settings.max_length
    lengths = [min(longest, len(q) + len(d) + encoder.template.special_count) for q, d in zip(queries, documents, strict=True)]

    def batch(part: np.ndarray) -> PairTokens:
        return encoder.build_pairs([queries[i] for i in part], [documents[i] for i in part])

    return make_chunks(lengths, tokens_per_chunk, batch)
