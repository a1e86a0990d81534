"""Queries made anew for every epoch of a training; the teacher embeds those of a batch when it is their turn."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from distill.data.loaders import make_collate, sample_rows
from distill.encoders.batching import encode_texts
from distill.encoders.encoder import Encoder
from distill.encoders.towers import is_available, load_maker
from distill.files.device import best_device
from distill.files.fingerprints import fingerprint
from distill.generate.filters import Filters, RealQueries, find_drop_reasons
from distill.generate.generator import Generator, Material
from distill.records import BadInput, Batch
from distill.teachers.stored import StoredQueries
from distill.texts.tokens import TokenArrays, concatenate_tokens, tokenize_in_memory
from distill.vectors.store import TeacherStore

ROUNDS = 20  # of making more in the place of those that are dropped


class FreshQueries(StoredQueries):
    """The stored queries of a training, and after them generated ones, others in every epoch.

    Row `len(stored) + epoch * count + i` is the `i`-th of an epoch. What it says depends on seed and row alone: a run that goes on sees
    what it would have seen, and every rank makes the same epoch, of which it takes its share.

    Args:
        stored: with vectors on disk.
        store: of the teacher; refused where that is not at hand, or another by now.
        generator: who makes the others.
        material: what of.
        count: generated queries an epoch.
        seed: of their texts.
    """

    def __init__(self, stored: StoredQueries, store: TeacherStore, generator: Generator, material: Material, count: int, seed: int):
        self.stores, self.store_of, self.rows = stored.stores, stored.store_of, stored.rows
        if not is_available(store.maker):
            raise BadInput(f"data.fresh: {store.maker.name}, which made {store.folder}, is not here to embed new queries: leave it out")
        self.teacher = load_maker(store.maker).prepare_for(best_device()).query
        self.precision = store.maker.precision or "fp32"
        self.generator, self.read, self.count, self.seed = generator, material.read_by(generator), max(1, count), seed
        generator.prepare(material)
        self._known = RealQueries(material.evaluation_queries(), material.queries)
        self._epoch: int = -1
        self._texts: list[str] = []

    def texts(self, epoch: int) -> list[str]:
        """`count` texts, all different, none of which another split asks."""
        if epoch != self._epoch:
            self._epoch, self._texts = epoch, self._made(epoch)
        return self._texts

    def text(self, row: int) -> str:
        epoch, number = divmod(int(row) - len(self), self.count)  # numpy's 0 has another fingerprint than 0
        return self.texts(epoch)[number]

    def take(self, queries: np.ndarray) -> np.ndarray:
        vectors = np.empty((len(queries), self.teacher.width), np.float16)
        fresh = queries >= len(self)
        vectors[~fresh] = super().take(queries[~fresh])
        if fresh.any():
            vectors[fresh] = encode_texts(self.teacher, [self.text(row) for row in queries[fresh]], "query", self.precision)
        return vectors

    def epoch_collate(self, epoch: int, stored: TokenArrays, student: Encoder) -> tuple[Callable[[np.ndarray], Batch], np.ndarray]:
        """How an epoch's rows, its generated queries after the stored ones, become a batch, and how many tokens each has [N]."""
        tokens = concatenate_tokens([stored, tokenize_in_memory(self.texts(epoch), student, "query")])
        rows = np.concatenate([np.arange(len(self)), len(self) + epoch * self.count + np.arange(self.count)])
        collate = make_collate(tokens, np.empty((len(tokens), 0), np.int64))
        return lambda drawn: replace(collate(drawn), query_rows=torch.from_numpy(rows[drawn])), tokens.lengths

    def _made(self, epoch: int) -> list[str]:
        rows, draw = np.random.default_rng([self.seed, epoch, self.count]), random.Random(fingerprint(self.seed, epoch))
        found: dict[int, str] = {}
        for _ in range(ROUNDS):
            sources, counts = np.unique(sample_rows([(len(self.read), self.count - len(found))], rows), return_counts=True)
            made = self.generator.write(self.read.read(sources), counts.tolist(), draw, lambda done: None)
            texts = [text for those in made for text in those]
            reasons, keys = find_drop_reasons(texts, Filters(), self._known)
            found |= {key: text for key, text, reason in zip(keys.tolist(), texts, reasons, strict=True) if reason is None}
            if len(found) >= self.count:
                return list(found.values())[: self.count]
        name = self.generator.name
        raise BadInput(f"data.fresh_share: {name} makes {len(found)} different queries where an epoch needs {self.count}: lower it")


def check_fresh(generator: Generator | None, share: float | None, scored: bool) -> None:
    """Refuses what cannot be made anew; `scored` are queries that are learnt from with documents."""
    if share is not None and (generator is None or not 0 < share < math.inf):
        raise BadInput(f"data.fresh_share: {share}: above 0, and only beside data.fresh")
    if generator and not generator.anew:
        raise BadInput(f"data.fresh: {generator.name} is too slow to be asked in every epoch: write a file with distill generate")
    if generator and scored:
        raise BadInput("data.fresh: its queries have vectors, but no candidates: leave data.candidates and data.teachers out")
