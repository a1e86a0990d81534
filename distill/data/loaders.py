"""From rows to batches: queries of equal length together, in a seeded order that any number of ranks shares and a resume continues."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from distill.records import Batch
from distill.texts.chunks import chunk_texts
from distill.texts.qrels import RelevantRows
from distill.texts.tokens import TokenArrays

TOKENS_PER_CHUNK = 16_384  # of documents that pass through a student at once


def make_collate(
    tokens: TokenArrays,
    candidates: np.ndarray,
    documents: tuple[TokenArrays, np.ndarray] | None = None,
    relevant: RelevantRows | None = None,
) -> Callable[[np.ndarray], Batch]:
    """A function from query rows [B] to their batch; `candidates` [N, K] are document rows, K = 0 for none.

    `documents` are the corpus' tokens and the rows [N, K] of the candidates in it, for a student that embeds documents itself;
    `relevant` what is judged so for each query.
    """

    def batch(rows: np.ndarray) -> Batch:
        texts = documents and chunk_texts(documents[0], documents[1][rows].ravel(), TOKENS_PER_CHUNK)
        answers = None if relevant is None else torch.from_numpy(relevant.of(rows))
        return Batch(tokens.batch(rows), torch.from_numpy(rows), torch.from_numpy(candidates[rows]), texts, answers)

    return batch


def epoch_batches(
    lengths: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    drawn: Sequence[tuple[int, int]] | None = None,
    before: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """Rows [batches, batch_size] of one epoch, batches of near-equal length, in random order.

    `drawn` holds (size, queries an epoch) of each query set, in row order; by default each query comes once. Queries of one length
    meet at random; the remainder that fills no batch is drawn at random, another one every epoch. `before` holds (size, number) of
    the batches with which the epoch began on other numbers of ranks: what they held does not come again.
    """
    random = np.random.default_rng([seed, epoch])
    rows = sample_rows(drawn or [(len(lengths), len(lengths))], random)
    for size, done in before:
        batches, rest = _cut(rows, lengths, size, random)
        rows = np.concatenate([batches[done:].ravel(), rest])
    return _cut(rows, lengths, batch_size, random)[0]


def _cut(rows: np.ndarray, lengths: np.ndarray, size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Batches [batches, size] and the rows left over."""
    rows = random.permutation(rows)
    count = len(rows) // size
    rows, rest = np.split(rows, [count * size])
    batches = rows[np.argsort(lengths[rows], kind="stable")].reshape(count, size)
    return batches[random.permutation(count)], rest


def sample_rows(drawn: Sequence[tuple[int, int]], random: np.random.Generator) -> np.ndarray:
    """Rows [sum of queries] drawn from sets of (size, queries): each of a set comes as often as any other, or once more."""
    parts, start = [np.empty(0, np.int64)], 0
    for size, queries in drawn:
        rounds = [random.permutation(size) for _ in range(math.ceil(queries / size) if size else 0)]
        parts.append(start + np.concatenate([*rounds, parts[0]])[:queries])
        start += size
    return np.concatenate(parts)


class TrainingLoader:
    """Batches of one rank; iterating again goes on where the last checkpoint stood.

    The order depends on seed, epoch and the global batch (`batch_size * world_size`) alone, so two ranks with batches of 32
    see between them exactly the batches that one rank with 64 sees.
    """

    def __init__(
        self,
        collate: Callable[[np.ndarray], Batch],
        lengths: np.ndarray,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batches_done: Callable[[], int] | None = None,
        drawn: Sequence[tuple[int, int]] | None = None,
        what: str = "queries",
        renew: Callable[[int], tuple[Callable[[np.ndarray], Batch], np.ndarray]] | None = None,
    ):
        self.what = what  # a row is one of them
        self.renew = renew  # `collate` and `lengths` of an epoch, where they change from one to the next
        self.collate = collate
        self.lengths = lengths
        self.epoch: int = 0
        self.position: int = 0  # batches of this epoch handed out
        self.before: list[tuple[int, int]] = []  # size and number of this epoch's batches on other numbers of ranks
        # who trains knows how many batches of this epoch are learnt; a batch that was only fetched when training died is not
        self.batches_done = batches_done or (lambda: self.position)
        # fewer queries than one global batch still make a batch
        self.drawn = drawn or [(len(lengths), len(lengths))]
        queries = sum(count for _, count in self.drawn)
        self.global_batch = min(batch_size * world_size, queries // world_size * world_size)
        self._length = queries // self.global_batch if self.global_batch else 0
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.sampler = self  # the trainer calls `set_epoch` of a loader's sampler

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        if self.renew:
            self.collate, self.lengths = self.renew(self.epoch)
        batches = epoch_batches(self.lengths, self.global_batch, self.seed, self.epoch, self.drawn, self.before)
        while self.position < len(self):
            rows = batches[self.position - len(self)][self.rank :: self.world_size]  # those that remain are the last ones
            self.position += 1
            yield self.collate(rows)

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.position, self.before = epoch, 0, []

    def state_dict(self) -> dict[str, Any]:
        done = self.batches_done() - self._first_batch()
        return {"epoch": self.epoch, "batches": [*map(list, self.before), [self.global_batch, done]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, parts = state["epoch"], [(size, done) for size, done in state["batches"]]
        same = parts[-1][0] == self.global_batch
        self.before = [part for part in (parts[:-1] if same else parts) if part[1]]
        self.position = self._first_batch() + (parts[-1][1] if same else 0)

    def _first_batch(self) -> int:
        """How many of our batches those before stand for: as many as leave room for the rest."""
        if not self.before:
            return 0
        left = sum(count for _, count in self.drawn) - sum(size * done for size, done in self.before)
        ended = left < self.before[-1][0]  # what filled no batch then does not open the epoch again
        return len(self) - (0 if ended else left // self.global_batch)


class EvaluationLoader:
    """This rank's share of the evaluation queries, each exactly once, longest first."""

    def __init__(self, collate: Callable[[np.ndarray], Batch], lengths: np.ndarray, batch_size: int, rank: int, world_size: int):
        share = np.arange(rank, len(lengths), world_size)
        share = share[np.argsort(lengths[share], kind="stable")[::-1]]
        self.batches = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
        self.collate = collate

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.collate, self.batches)
