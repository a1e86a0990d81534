"""From rows to batches: queries of equal length together, in a seeded order that any number of ranks shares and a resume continues."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from distill.records import Batch
from distill.texts.chunks import chunk_texts
from distill.texts.qrels import RelevantRows
from distill.texts.tokens import TokenArrays

TOKENS_PER_CHUNK = 16_384  # of documents that pass through a student at once

Collate = Callable[[np.ndarray], Any]  # makes a batch out of rows [B]


class Draw(NamedTuple):
    """How many rows of a set an epoch has."""

    size: int  # rows of the set
    number: int  # rows drawn from it in an epoch, more or fewer than there are


class BatchesDone(NamedTuple):
    """Batches of one size with which an epoch began, on some number of ranks."""

    size: int  # queries of a batch, over all ranks
    number: int


def make_collate(
    tokens: TokenArrays,
    candidates: np.ndarray,
    documents: tuple[TokenArrays, np.ndarray] | None = None,
    relevant: RelevantRows | None = None,
) -> Callable[[np.ndarray], Batch]:
    """Returns a function that makes a batch out of query rows [B].

    Args:
        tokens: of N queries.
        candidates: [N, K] rows of documents to score each query against; K = 0 for none.
        documents: for a student that embeds documents itself, the tokens of the corpus and the rows [N, K] of the candidates in it.
        relevant: the documents judged relevant to each query.
    """

    def collate(rows: np.ndarray) -> Batch:
        texts = None
        if documents is not None:
            document_tokens, document_rows = documents
            texts = chunk_texts(document_tokens, document_rows[rows].ravel(), TOKENS_PER_CHUNK)
        relevant_rows = None if relevant is None else torch.from_numpy(relevant.rows_for(rows))
        return Batch(tokens.batch(rows), torch.from_numpy(rows), torch.from_numpy(candidates[rows]), texts, relevant_rows)

    return collate


def epoch_batches(
    lengths: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    draws: Sequence[Draw] | None = None,
    done: Sequence[BatchesDone] = (),
) -> np.ndarray:
    """Returns the rows [batches, batch_size] of one epoch, in batches of near-equal length, the batches in random order.

    Queries of one length meet at random. The remainder that fills no batch is drawn at random, another one every epoch.

    Args:
        lengths: [N] tokens of every query.
        batch_size: queries of a batch, over all ranks.
        seed: of the order.
        epoch: its number.
        draws: how many queries of each set the epoch has, in the order of the rows; by default every query once.
        done: batches of other sizes with which the epoch began; their queries do not come again.

    >>> epoch_batches(np.array([9, 2, 9, 2]), batch_size=2, seed=0, epoch=0).tolist()
    [[0, 2], [3, 1]]
    """
    random = np.random.default_rng([seed, epoch])
    rows = draw_rows(draws or [Draw(len(lengths), len(lengths))], random)
    for size, number in done:
        batches, rest = _cut_into_batches(rows, lengths, size, random)
        rows = np.concatenate([batches[number:].ravel(), rest])
    return _cut_into_batches(rows, lengths, batch_size, random)[0]


def _cut_into_batches(rows: np.ndarray, lengths: np.ndarray, size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns batches [batches, size] and the rows left over."""
    rows = random.permutation(rows)
    count = len(rows) // size
    rows, rest = np.split(rows, [count * size])
    batches = rows[np.argsort(lengths[rows], kind="stable")].reshape(count, size)
    return batches[random.permutation(count)], rest


def draw_rows(draws: Sequence[Draw | tuple[int, int]], random: np.random.Generator) -> np.ndarray:
    """Draws rows of several sets, numbered one set after the other; each row of a set comes as often as any other, or once more.

    >>> sorted(draw_rows([Draw(size=2, number=2), Draw(size=1, number=3)], np.random.default_rng(0)).tolist())
    [0, 1, 2, 2, 2]
    """
    parts, start = [np.empty(0, np.int64)], 0
    for size, number in draws:
        rounds = [random.permutation(size) for _ in range(math.ceil(number / size) if size else 0)]
        parts.append(start + np.concatenate([*rounds, parts[0]])[:number])
        start += size
    return np.concatenate(parts)


class TrainingLoader:
    """Batches of one rank; iterating again goes on where the last checkpoint stood.

    The order depends on seed, epoch and the global batch (`batch_size * world_size`) alone. Two ranks with batches of 32 see between
    them exactly the batches that one rank with 64 sees.

    Args:
        collate: makes a batch out of rows.
        lengths: [N] tokens of every row.
        batch_size: rows per rank and step.
        seed: of the order.
        rank: number of this rank.
        world_size: number of ranks.
        batches_done: counts the batches of the epoch that were learnt, which a checkpoint remembers: one that was only fetched when
            training ended was not. By default those handed out.
        draws: how many rows of each set an epoch has; by default every row once.
        prepare_epoch: makes `collate` and `lengths` of an epoch, where they differ from one to the next.
        examples: what a row is, for messages.
    """

    def __init__(
        self,
        collate: Collate,
        lengths: np.ndarray,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batches_done: Callable[[], int] | None = None,
        draws: Sequence[Draw] | None = None,
        prepare_epoch: Callable[[int], tuple[Collate, np.ndarray]] | None = None,
        examples: str = "queries",
    ):
        self.collate, self.lengths = collate, lengths
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.batches_done = batches_done or (lambda: self.position)
        self.draws = draws or [Draw(len(lengths), len(lengths))]
        self.prepare_epoch = prepare_epoch
        self.examples = examples
        self.epoch: int = 0
        self.position: int = 0  # batches of this epoch handed out
        self.done: list[BatchesDone] = []  # batches of this epoch on other numbers of ranks
        self.epoch_size = sum(number for _, number in self.draws)  # rows of an epoch, over all ranks
        # fewer rows than one global batch still make a batch
        self.global_batch = min(batch_size * world_size, self.epoch_size // world_size * world_size)
        self._length = self.epoch_size // self.global_batch if self.global_batch else 0
        self.sampler = self  # the trainer calls `set_epoch` of a loader's sampler

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        if self.prepare_epoch:
            self.collate, self.lengths = self.prepare_epoch(self.epoch)
        batches = epoch_batches(self.lengths, self.global_batch, self.seed, self.epoch, self.draws, self.done)
        while self.position < len(self):
            batch = batches[self.position - len(self)]  # counted from the end, as `done` leaves the last ones
            self.position += 1
            yield self.collate(batch[self.rank :: self.world_size])

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.position, self.done = epoch, 0, []

    def state_dict(self) -> dict[str, Any]:
        ours = self.batches_done() - self._first_position()
        return {"epoch": self.epoch, "batches": [*map(list, self.done), [self.global_batch, ours]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        *before, last = [BatchesDone(*part) for part in state["batches"]]
        same_ranks = last.size == self.global_batch
        self.epoch = state["epoch"]
        self.done = [part for part in (before if same_ranks else [*before, last]) if part.number]
        self.position = self._first_position() + (last.number if same_ranks else 0)

    def _first_position(self) -> int:
        """Returns how many of our batches those on other numbers of ranks stand for: as many as leave room for the rest."""
        if not self.done:
            return 0
        left = self.epoch_size - sum(size * number for size, number in self.done)
        epoch_ended = left < self.done[-1].size  # what filled no batch then does not open the epoch again
        return len(self) - (0 if epoch_ended else left // self.global_batch)


class EvaluationLoader:
    """Batches of this rank's share of the evaluation queries, each query once, the longest first.

    Args:
        collate: makes a batch out of rows.
        lengths: [N] tokens of every query.
        batch_size: queries of a batch.
        rank: number of this rank.
        world_size: number of ranks.
    """

    def __init__(self, collate: Collate, lengths: np.ndarray, batch_size: int, rank: int, world_size: int):
        share = np.arange(rank, len(lengths), world_size)
        share = share[np.argsort(lengths[share], kind="stable")[::-1]]
        self.batches = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
        self.collate = collate

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return map(self.collate, self.batches)
