"""The plan of a file of generated queries: the text that each query is made from, and the shard that it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from distill.files.fingerprints import fingerprint
from distill.generate.filters import Filters
from distill.generate.generator import Generator
from distill.generate.material import Material
from distill.texts.texts import Texts
from distill.vectors.store import TeacherStore


@dataclass(frozen=True)
class GenerationPlan:
    """A plan of `count` queries: query `i` is made from text `i * len(texts) // count`, so that all texts get equally many.

    A shard holds all queries of its texts, so that a generator, which may cost money, reads each text once.
    """

    generator: Generator
    material: Material
    count: int
    seed: int
    filters: Filters

    @cached_property
    def texts(self) -> Texts:
        """The texts that queries are made from."""
        return self.material.texts(self.generator.reads)

    @property
    def texts_per_shard(self) -> int:
        return max(1, self.generator.queries_per_shard * len(self.texts) // self.count)

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-len(self.texts) // self.texts_per_shard)

    def first_query(self, shard: int) -> int:
        """Returns the number of a shard's first query."""
        return min(self.count, -(-shard * self.texts_per_shard * self.count // len(self.texts)))

    def text_rows(self, shards: Sequence[int]) -> np.ndarray:
        """Returns for each query of the shards the row of its text, [n] int64, ascending within a shard."""
        numbers = [np.arange(self.first_query(shard), self.first_query(shard + 1)) for shard in shards]
        return np.concatenate([np.empty(0, np.int64), *numbers]) * len(self.texts) // self.count

    def describe(self, teacher: TeacherStore | None) -> dict[str, Any]:
        """Returns everything that determines the content of the file, as plain values; `teacher` is the store of the round trip."""
        evaluation = [texts.fingerprint for texts in self.material.evaluation_queries()]
        others = {}
        if self.filters.round_trip and teacher is not None:
            others["teacher"] = teacher.documents.identity
        if self.generator.reads == "queries" and self.material.source.has_documents():
            others["documents"] = self.material.documents.fingerprint  # noise takes words of theirs
        shows_pairs = getattr(self.generator, "examples", 0) > 0
        qrels = self.material.source.qrels(self.material.split) if shows_pairs else None
        if qrels is not None:
            others["judgments"] = fingerprint(qrels.judgments)  # its examples are judged pairs
        return {
            "version": 1,
            "generator": self.generator.settings(),
            "queries": self.count,
            "queries_per_shard": self.generator.queries_per_shard,
            "seed": self.seed,
            "split": self.material.split,
            "filters": asdict(self.filters),
            "texts": [self.texts.fingerprint, self.material.queries.fingerprint],
            "evaluation_queries": fingerprint(*evaluation),
            **others,
        }
