"""`Chunks`: many texts or pairs in batches of near-equal length, which saves padding and needs the memory of one batch only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from distill.encoders.cross import CrossEncoder
from distill.encoders.device_batches import length_batches
from distill.encoders.pair_tokens import PairTokens
from distill.records import Tokens, send
from distill.texts.tokens import TokenArrays

TokenBatch = TypeVar("TokenBatch", Tokens, PairTokens)


@dataclass(frozen=True)
class Chunks(Generic[TokenBatch]):
    """N texts or pairs, sorted by length into batches."""

    batches: list[TokenBatch]
    positions: Tensor  # [N] int64: row of each text in the batches joined one after the other

    def to(self, device: torch.device) -> Chunks[TokenBatch]:
        return Chunks([batch.to(device) for batch in self.batches], send(self.positions, device))

    def pin_memory(self) -> Chunks[TokenBatch]:
        return Chunks([batch.pin_memory() for batch in self.batches], self.positions.pin_memory())

    def map(self, function: Callable[[TokenBatch], Tensor]) -> Tensor:
        """Calls `function` on each batch; returns the values [N, ...] of all texts in their original order."""
        return torch.cat([function(batch) for batch in self.batches])[self.positions]


def make_chunks(lengths: Sequence[int], tokens_per_chunk: int, make_batch: Callable[[np.ndarray], TokenBatch]) -> Chunks[TokenBatch]:
    """Sorts N texts by length into batches.

    Args:
        lengths: N numbers of tokens.
        tokens_per_chunk: most tokens of a batch, padding included; a longer text is a batch of its own.
        make_batch: makes a batch of the texts in rows [n].
    """
    parts: list[np.ndarray] = list(length_batches(lengths, tokens_per_chunk))
    order = np.concatenate([np.empty(0, np.int64), *parts])
    return Chunks([make_batch(rows) for rows in parts], torch.from_numpy(np.argsort(order, kind="stable")))


def chunk_texts(tokens: TokenArrays, rows: np.ndarray, tokens_per_chunk: int) -> Chunks[Tokens]:
    """Batches of the texts in `rows` [N], which may repeat."""
    return make_chunks(tokens.lengths[rows].tolist(), tokens_per_chunk, lambda part: tokens.batch(rows[part]))


def chunk_pairs(
    encoder: CrossEncoder, queries: Sequence[np.ndarray], documents: Sequence[np.ndarray], tokens_per_chunk: int
) -> Chunks[PairTokens]:
    """Batches of N pairs for a cross encoder; `queries` and `documents` are N token ids each, without special tokens."""
    lengths = encoder.pair_lengths(queries, documents)

    def make_batch(part: np.ndarray) -> PairTokens:
        return encoder.build_pairs([queries[i] for i in part], [documents[i] for i in part])

    return make_chunks(lengths, tokens_per_chunk, make_batch)
