"""Makes one shard of a file of generated queries, and a record of it from which duplicates among all shards are found."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import xxhash

from distill.files.atomic import write_atomically
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.files.line_shards import LineShardWriter
from distill.generate.filters import REASONS, DropReason, RealQueries, find_drop_reasons
from distill.generate.generator import Progress
from distill.generate.minhash import minhash_signatures
from distill.generate.plan import GenerationPlan
from distill.generate.round_trip import RoundTripTeacher
from distill.records import BadInput


@dataclass(frozen=True)
class ShardRecord:
    """The record of a shard, a file next to it; with it duplicates among all shards are found without reading the shards again."""

    keys: np.ndarray  # [n] uint64, one for each line, equal for duplicates
    signatures: np.ndarray  # [n, MINIMA] uint32, from MinHash; [0, 0] if near duplicates are not dropped
    dropped: np.ndarray  # [len(REASONS)] int64, number of dropped queries by reason

    def save(self, path: Path, checksum: str) -> None:
        """Writes the record, with the checksum of its shard."""
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, keys=self.keys, signatures=self.signatures, dropped=self.dropped, checksum=checksum)

    @classmethod
    def load(cls, shard: Path) -> ShardRecord:
        """Reads the record of a shard; refuses a damaged record, and a record whose shard has changed."""
        with suppress(OSError, ValueError, EOFError, KeyError, BadZipFile), np.load(record_path(shard), allow_pickle=False) as arrays:
            if str(arrays["checksum"]) == file_fingerprint(shard):
                return cls(arrays["keys"], arrays["signatures"], arrays["dropped"])
        raise BadInput(f"{shard}: it, or what lies beside it, changed since it was written: delete it and start again")


def record_path(shard: Path) -> Path:
    """Returns the path of a shard's record."""
    return shard.with_suffix(".part.npz")


@dataclass(frozen=True)
class ShardMaker:
    """Makes the shards of a plan; a shard depends only on the plan and its number.

    `teacher` drops queries whose document it does not find; None drops none of them.
    """

    plan: GenerationPlan
    real: RealQueries
    teacher: RoundTripTeacher | None
    writer: LineShardWriter

    def make(self, shard: int, progress: Progress) -> None:
        """Makes and writes one shard and its record."""
        plan = self.plan
        rows, counts = np.unique(plan.text_rows([shard]), return_counts=True)
        rng = random.Random(fingerprint(plan.seed, shard))
        queries = plan.generator.write(plan.texts.read(rows), counts.tolist(), rng, progress)
        texts = [text for queries_of_text in queries for text in queries_of_text]
        sources = [plan.texts.ids[row] for row, queries_of_text in zip(rows, queries, strict=True) for _ in queries_of_text]
        reasons, keys = find_drop_reasons(texts, plan.filters, self.real)
        self._drop_by_round_trip(texts, sources, reasons)
        places = np.array([place for place, reason in enumerate(reasons) if reason is None], np.int64)
        lines = [self._format_line(plan.first_query(shard) + place, texts[place], sources[place]) for place in places.tolist()]
        counted = Counter({**Counter(reasons), "not made": int(counts.sum()) - len(texts)})
        dropped = np.array([counted[reason] for reason in REASONS])
        signatures = np.empty((0, 0), np.uint32)
        if plan.filters.near_duplicates:
            signatures = minhash_signatures([texts[place] for place in places])
        checksum = xxhash.xxh3_64_hexdigest("".join(lines).encode())
        ShardRecord(keys[places], signatures, dropped).save(record_path(self.writer.shard_path(shard)), checksum)
        self.writer.write_shard(shard, lines)

    def _drop_by_round_trip(self, texts: list[str], sources: list[str], reasons: list[DropReason | None]) -> None:
        """Sets the reason of queries whose document the teacher does not find again."""
        k = self.plan.filters.round_trip
        places = [place for place, reason in enumerate(reasons) if reason is None]
        if not k or not places or self.teacher is None:
            return
        is_found = self.teacher.finds_documents([texts[place] for place in places], [sources[place] for place in places], k)
        for place in np.array(places)[~is_found]:
            reasons[place] = "round trip"

    def _format_line(self, number: int, text: str, source: str) -> str:
        """Formats a line of JSON by hand, which is faster: only three values differ from line to line."""
        name, quote = self.plan.generator.name, json.encoder.encode_basestring
        return (
            f'{{"id": "{name}-{number}", "text": {quote(text)}, "generator": "{name}", '
            f'"source": {quote(source)}, "seed": {self.plan.seed}}}\n'
        )
