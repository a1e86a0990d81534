"""Loaders: batches of queries of similar length, in a seeded order that is the same on any number of ranks and after a resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from distill.data.prefetch import prefetch
from distill.encoders.device_batches import TOKENS_PER_CHUNK
from distill.records import Batch
from distill.teachers.stored import LookUpTeacher
from distill.texts.chunks import chunk_texts
from distill.texts.qrels import RelevantRows
from distill.texts.tokens import TokenArrays

Collate = Callable[[np.ndarray], Any]  # makes a batch from rows [B]


class Draw(NamedTuple):
    """The number of rows that an epoch draws from a set of queries."""

    size: int  # number of rows of the set
    number: int  # number of rows to draw, which may be more or fewer than `size`


class BatchesDone(NamedTuple):
    """Finished batches of one epoch that have the same size. A run that is resumed on more or fewer ranks goes on with another size."""

    size: int  # number of queries of a batch, over all ranks
    number: int  # number of finished batches


def make_collate(
    tokens: TokenArrays,
    candidates: np.ndarray,
    documents: tuple[TokenArrays, np.ndarray] | None = None,
    relevant: RelevantRows | None = None,
    teachers: Sequence[LookUpTeacher] = (),
    tokens_per_chunk: int = TOKENS_PER_CHUNK["cpu"],
) -> Callable[[np.ndarray], Batch]:
    """Returns a function that makes a batch from query rows [B].

    Args:
        tokens: tokens of N queries.
        candidates: [N, K] rows of documents to score each query against; K = 0 for none.
        documents: for a student that embeds documents itself, the tokens of the corpus and the rows [N, K] of the candidates in it.
        relevant: the documents judged relevant to each query.
        teachers: teachers whose vectors or scores on disk come with the batch.
        tokens_per_chunk: padded tokens of documents that pass through a student at once.
    """

    def collate(rows: np.ndarray) -> Batch:
        texts = None
        if documents is not None:
            document_tokens, document_rows = documents
            texts = chunk_texts(document_tokens, document_rows[rows].ravel(), tokens_per_chunk)
        relevant_rows = None if relevant is None else torch.from_numpy(relevant.rows_for(rows))
        batch = Batch(tokens.batch(rows), torch.from_numpy(rows), torch.from_numpy(candidates[rows]), texts, relevant_rows)
        return replace(batch, looked_up={teacher: teacher.look_up(batch) for teacher in teachers})

    return collate


def epoch_batches(
    lengths: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    draws: Sequence[Draw] | None = None,
    done: Sequence[BatchesDone] = (),
) -> np.ndarray:
    """Returns the rows [batches, batch_size] of one epoch: queries of similar length in a batch, the batches in random order.

    Which queries of the same length share a batch is random. The rows that fill no batch are left out, others in every epoch.

    Args:
        lengths: [N] number of tokens of every query.
        batch_size: number of queries of a batch, over all ranks.
        seed: seed of the order.
        epoch: number of the epoch.
        draws: number of queries that the epoch draws from each set, in the order of the rows; by default every query once.
        done: finished batches of other sizes at the beginning of the epoch; their queries do not come again.

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
    """Divides rows into random batches of similar length; returns the batches [batches, size] and the rows that fill no batch."""
    rows = random.permutation(rows)
    count = len(rows) // size
    rows, rest = np.split(rows, [count * size])
    batches = rows[np.argsort(lengths[rows], kind="stable")].reshape(count, size)
    return batches[random.permutation(count)], rest


def draw_rows(draws: Sequence[Draw | tuple[int, int]], random: np.random.Generator) -> np.ndarray:
    """Draws rows from several sets, numbered one set after the other; two rows of a set are drawn equally often, or differ by one.

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
    """Yields the batches of one rank; an iteration starts at the position of the last checkpoint.

    The order depends only on seed, epoch and the global batch (`batch_size * world_size`): two ranks with batches of 32 together get
    exactly the batches that one rank with batches of 64 gets.

    Args:
        collate: makes a batch from rows.
        lengths: [N] number of tokens of every row.
        batch_size: rows per rank and step.
        seed: seed of the order.
        rank: number of this rank.
        world_size: number of ranks.
        batches_done: returns the number of batches of the epoch that were trained on, which a checkpoint stores. Batches that were only
            fetched do not count. By default the number of fetched batches.
        draws: number of rows that an epoch draws from each set; by default every row once.
        prepare_epoch: returns `collate` and `lengths` of an epoch, if they change from epoch to epoch.
        examples: name of the rows in messages.
        batches_ahead: number of batches that a thread makes before they are asked for, see `prefetch`; 0 for none.
        gpu: GPU whose pinned memory the batches are put in.
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
        batches_ahead: int = 0,
        gpu: torch.device | None = None,
    ):
        self.collate, self.lengths = collate, lengths
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.batches_done = batches_done or (lambda: self.position)
        self.draws = draws or [Draw(len(lengths), len(lengths))]
        self.prepare_epoch = prepare_epoch
        self.examples = examples
        self.batches_ahead, self.gpu = batches_ahead, gpu
        self.epoch: int = 0
        self.position: int = 0  # number of batches of this epoch that were fetched; those made ahead do not count
        self.done: list[BatchesDone] = []  # batches of this epoch that were finished on other numbers of ranks
        self.epoch_size = sum(number for _, number in self.draws)  # number of rows of an epoch, over all ranks
        # an epoch with fewer rows than one global batch still has one, smaller batch
        self.global_batch = min(batch_size * world_size, self.epoch_size // world_size * world_size)
        self._length = self.epoch_size // self.global_batch if self.global_batch else 0
        self.sampler = self  # the trainer calls `set_epoch` of a loader's sampler

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        if self.prepare_epoch:
            self.collate, self.lengths = self.prepare_epoch(self.epoch)
        batches = epoch_batches(self.lengths, self.global_batch, self.seed, self.epoch, self.draws, self.done)
        batches = batches[len(batches) - (len(self) - self.position) :]  # counted from the end, as `done` leaves the last ones
        for batch in prefetch(self._make_batch, batches, self.batches_ahead, self.gpu):
            self.position += 1
            yield batch

    def _make_batch(self, rows: np.ndarray) -> Any:
        """Makes this rank's share of a batch of the rows of all ranks."""
        batch = self.collate(rows[self.rank :: self.world_size])
        return batch if self.gpu is None else batch.pin_memory()

    def longest_texts(self) -> np.ndarray:
        """Returns how many tokens [batches] the longest text of each batch of this epoch has; not of queries that are made anew."""
        if not len(self):
            return np.empty(0, np.int64)
        return self.lengths[epoch_batches(self.lengths, self.global_batch, self.seed, self.epoch, self.draws)].max(axis=1)

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.position, self.done = epoch, 0, []

    def state_dict(self) -> dict[str, Any]:
        done_here = self.batches_done() - self._first_position()
        batches = [*self.done, BatchesDone(self.global_batch, done_here)]
        return {"epoch": self.epoch, "batches": [list(part) for part in batches]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        parts = [BatchesDone(*part) for part in state["batches"]]
        done_here = 0
        if parts[-1].size == self.global_batch:  # else the checkpoint is of another number of ranks
            done_here = parts.pop().number
        self.epoch = state["epoch"]
        self.done = [part for part in parts if part.number]
        self.position = self._first_position() + done_here

    def _first_position(self) -> int:
        """Returns the position of the first batch of this size: batches on other numbers of ranks stand for all positions before it."""
        if not self.done:
            return 0
        rows_left = self.epoch_size - sum(size * number for size, number in self.done)
        epoch_ended = rows_left < self.done[-1].size  # the epoch was over for the earlier number of ranks, and stays over
        return len(self) - (0 if epoch_ended else rows_left // self.global_batch)


class EvaluationLoader:
    """Yields the batches of this rank's share of the evaluation queries, each query once.

    Queries of similar length share a batch. The batches are in random order, always the same: where a limit leaves some out, the others are
    a sample of all lengths.

    Args:
        collate: makes a batch from rows.
        lengths: [N] number of tokens of every query.
        batch_size: queries of a batch.
        rank: number of this rank.
        world_size: number of ranks.
    """

    def __init__(self, collate: Collate, lengths: np.ndarray, batch_size: int, rank: int, world_size: int):
        share = np.arange(rank, len(lengths), world_size)
        share = share[np.argsort(lengths[share], kind="stable")[::-1]]
        batches = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
        self.batches = [batches[place] for place in np.random.default_rng(0).permutation(len(batches))]
        self.collate = collate

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return map(self.collate, self.batches)
