"""Queries generated anew for every epoch of a training; the teacher embeds the generated queries of each batch."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from distill.data.loaders import Draw, draw_rows, make_collate
from distill.encoders.batching import encode_texts
from distill.encoders.device_batches import TOKENS_PER_BATCH, tokens_for
from distill.encoders.encoder import Encoder
from distill.encoders.towers import is_available, load_maker
from distill.files.device import autocast, best_device
from distill.files.fingerprints import fingerprint
from distill.generate.filters import Filters, RealQueries, find_drop_reasons
from distill.generate.generator import Generator
from distill.generate.material import Material
from distill.records import BadInput, Batch, send
from distill.teachers.stored import StoredQueries
from distill.texts.chunks import chunk_texts
from distill.texts.tokens import TokenArrays, concatenate_tokens, tokenize_in_memory
from distill.vectors.store import TeacherStore

ROUNDS = 20  # most attempts to replace queries that the filters dropped


class FreshQueries(StoredQueries):
    """The stored queries of a training, followed by generated queries, which are new in every epoch.

    Row `len(self) + epoch * count + i` is the `i`-th generated query of an epoch. Its text depends only on seed and row: a resumed run
    gets the same queries, and every rank generates the whole epoch and trains on its share.

    Args:
        stored: queries with vectors on disk.
        store: the teacher's store; refused if the teacher's model is not available or has changed.
        generator: makes the generated queries.
        material: the texts that they are made from.
        count: number of generated queries in an epoch.
        seed: seed of the generated queries.
    """

    def __init__(self, stored: StoredQueries, store: TeacherStore, generator: Generator, material: Material, count: int, seed: int):
        self.stores, self.store_of, self.rows = stored.stores, stored.store_of, stored.rows
        if not is_available(store.maker):
            raise BadInput(f"data.fresh: {store.maker.name}, which made {store.folder}, is not here to embed new queries: leave it out")
        self.teacher = load_maker(store.maker).prepare_for(best_device()).query
        self.precision = store.maker.precision or "fp32"
        self.generator, self.seed = generator, seed
        self.source_texts = material.texts(generator.reads)
        self.count = max(1, count)
        generator.prepare(material)
        self._real_queries = RealQueries(material.evaluation_queries(), material.queries)
        self._epoch: int = -1
        self._texts: list[str] = []

    def texts(self, epoch: int) -> list[str]:
        """Returns `count` texts, all different, none of them an evaluation query."""
        if epoch != self._epoch:
            self._epoch, self._texts = epoch, self._generate(epoch)
        return self._texts

    def text(self, row: int) -> str:
        """Returns the generated query of a row."""
        epoch, number = divmod(int(row) - len(self), self.count)  # int, because the fingerprint of numpy's 0 differs from that of 0
        return self.texts(epoch)[number]

    def take(self, queries: np.ndarray) -> np.ndarray:
        """Returns the vectors [n, D] float16 of the queries [n]: stored ones are looked up, generated ones embedded."""
        vectors = np.empty((len(queries), self.teacher.width), np.float16)
        is_generated = queries >= len(self)  # [n]
        vectors[~is_generated] = super().take(queries[~is_generated])
        if is_generated.any():
            texts = [self.text(row) for row in queries[is_generated]]
            vectors[is_generated] = encode_texts(self.teacher, texts, "query", self.precision)
        return vectors

    def look_up(self, queries: np.ndarray) -> Tensor:
        if self.teacher.device.type == "cpu":
            return super().look_up(queries)
        is_generated = queries >= len(self)  # [n]
        generated = self._embed_on_gpu([self.text(row) for row in queries[is_generated]])
        stored = torch.from_numpy(super().take(queries[~is_generated]))
        places = np.argsort(np.argsort(~is_generated, kind="stable"))  # [n] of each query, where generated ones come first
        with torch.autocast(generated.device.type, enabled=False):  # under which bf16 training refuses to join float16
            vectors = torch.cat([generated, send(stored, generated.device)])
        return vectors[send(torch.from_numpy(places), vectors.device)]

    def _embed_on_gpu(self, texts: list[str]) -> Tensor:
        """Returns the vectors [n, D] float16 of texts, which stay on the GPU, so that nobody waits for them."""
        device = self.teacher.device
        if not texts:
            return torch.empty((0, self.teacher.width), dtype=torch.float16, device=device)
        tokens = tokenize_in_memory(texts, self.teacher, "query")
        chunks = chunk_texts(tokens, np.arange(len(texts)), tokens_for(device, TOKENS_PER_BATCH)).to(device)
        with torch.no_grad(), autocast(self.precision, device):
            return chunks.map(self.teacher).half()

    def prepare_epoch(self, epoch: int, stored_tokens: TokenArrays, student: Encoder) -> tuple[Callable[[np.ndarray], Batch], np.ndarray]:
        """Generates the queries of an epoch.

        Args:
            epoch: number of the epoch.
            stored_tokens: the student's tokens of the stored queries.
            student: tokenizes the generated queries.

        Returns:
            a function that makes a batch from rows of the epoch, in which stored queries come before generated ones, and the number of
            tokens [N] of each row.
        """
        tokens = concatenate_tokens([stored_tokens, tokenize_in_memory(self.texts(epoch), student, "query")])
        query_rows = np.concatenate([np.arange(len(self)), len(self) + epoch * self.count + np.arange(self.count)])  # [N]
        no_candidates = np.empty((len(tokens), 0), np.int64)
        collate = make_collate(tokens, no_candidates)
        return lambda rows: replace(collate(rows), query_rows=torch.from_numpy(query_rows[rows])), tokens.lengths

    def _generate(self, epoch: int) -> list[str]:
        """Generates the texts of an epoch; a query that the filters drop is replaced by another one."""
        row_rng = np.random.default_rng([self.seed, epoch, self.count])
        text_rng = random.Random(fingerprint(self.seed, epoch))
        texts: dict[int, str] = {}  # by the hash of their words, which is equal for duplicates
        for _ in range(ROUNDS):
            missing = self.count - len(texts)
            rows, counts = np.unique(draw_rows([Draw(len(self.source_texts), missing)], row_rng), return_counts=True)
            queries = self.generator.write(self.source_texts.read(rows), counts.tolist(), text_rng, lambda count: None)
            candidates = [query for queries_of_text in queries for query in queries_of_text]
            reasons, keys = find_drop_reasons(candidates, Filters(most_words=200), self._real_queries)
            texts |= {key: text for key, text, reason in zip(keys.tolist(), candidates, reasons, strict=True) if reason is None}
            if len(texts) >= self.count:
                return list(texts.values())[: self.count]
        name = self.generator.name
        raise BadInput(f"data.fresh_share: {name} makes {len(texts)} different queries where an epoch needs {self.count}: lower it")


def check_fresh(generator: Generator | None, share: float | None, has_candidates: bool) -> None:
    """Refuses a slow generator, a share without a generator, and generated queries in a training with candidates."""
    if share is not None and (generator is None or not 0 < share < math.inf):
        raise BadInput(f"data.fresh_share: {share}: above 0, and only beside data.fresh")
    if generator and not generator.is_cheap:
        raise BadInput(f"data.fresh: {generator.name} is too slow to be asked in every epoch: write a file with distill generate")
    if generator and has_candidates:
        raise BadInput("data.fresh: its queries have vectors, but no candidates: leave data.candidates and data.teachers out")
