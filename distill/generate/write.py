"""`distill generate`: more queries, made of real ones or of documents, into a file that `train` mixes in."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import xxhash

from distill.files.atomic import write_atomically
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.files.line_shards import LineShardWriter
from distill.files.progress import progress_bar
from distill.files.provenance import collect_provenance
from distill.files.ranks import launched_rank, launched_world_size
from distill.generate import Generator
from distill.generate.filters import REASONS, Filters, RealQueries, find_drop_reasons, find_duplicates, split_words
from distill.generate.generator import Material
from distill.generate.minhash import find_near_duplicates, minhash_signatures
from distill.generate.round_trip import RoundTrip, measure_diversity
from distill.records import BadInput
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore

SAMPLE = 1000  # queries that the diversity of a file is estimated by


@dataclass(frozen=True)
class GenerationPlan:
    """`count` queries to make: number `i` out of text `i * texts // count`, so that all texts get their share.

    A shard holds all queries of some texts: whoever makes them, and may be paid for it, reads each text once.
    """

    generator: Generator
    material: Material
    count: int
    seed: int
    filters: Filters

    @cached_property
    def texts(self) -> Texts:
        return self.material.read_by(self.generator)

    @property
    def texts_per_shard(self) -> int:
        return max(1, self.generator.queries_per_shard * len(self.texts) // self.count)

    @property
    def shards(self) -> int:
        return -(-len(self.texts) // self.texts_per_shard)

    def first(self, shard: int) -> int:
        """Number of a shard's first query."""
        return min(self.count, -(-shard * self.texts_per_shard * self.count // len(self.texts)))

    def rows(self, shards: Sequence[int]) -> np.ndarray:
        """[n] the text of each of the shards' queries, ascending within a shard."""
        numbers = [np.arange(self.first(shard), self.first(shard + 1)) for shard in shards]
        return np.concatenate([np.empty(0, np.int64), *numbers]) * len(self.texts) // self.count

    def inputs(self) -> dict[str, Any]:
        return {
            "version": 1,
            "generator": self.generator.settings(),
            "queries": self.count,
            "queries_per_shard": self.generator.queries_per_shard,
            "seed": self.seed,
            "split": self.material.split,
            "filters": asdict(self.filters),
            "texts": [self.texts.fingerprint, self.material.queries.fingerprint],
            "evaluation_queries": fingerprint(*(texts.fingerprint for texts in self.material.evaluation_queries())),
        }


@dataclass(frozen=True)
class ShardWriter:
    """Makes shards of a plan, each from the seed and its number alone."""

    plan: GenerationPlan
    known: RealQueries
    teacher: RoundTrip | None
    writer: LineShardWriter

    def make(self, shard: int, progress: Callable[[int], object]) -> None:
        plan, name = self.plan, self.plan.generator.name
        rows, counts = np.unique(plan.rows([shard]), return_counts=True)
        draw = random.Random(fingerprint(plan.seed, shard))
        made = plan.generator.write(plan.texts.read(rows), counts.tolist(), draw, progress)
        texts = [text for those in made for text in those]
        sources = [plan.texts.ids[row] for row, those in zip(rows, made, strict=True) for _ in those]
        reasons, keys = find_drop_reasons(texts, plan.filters, self.known)
        self._refuse_lost(texts, sources, reasons)
        kept = np.array([reason is None for reason in reasons], bool)
        first = plan.first(shard)
        quoted = json.encoder.encode_basestring
        lines = [
            f'{{"id": "{name}-{first + i}", "text": {quoted(texts[i])}, "generator": "{name}", '
            f'"source": {quoted(sources[i])}, "seed": {plan.seed}}}\n'
            for i in np.flatnonzero(kept)
        ]
        dropped = Counter({**Counter(reasons), "not made": int(counts.sum()) - len(texts)})
        near = minhash_signatures([texts[i] for i in np.flatnonzero(kept)]) if plan.filters.near_duplicates else np.empty((0, 0), np.uint32)
        checksum = xxhash.xxh3_64_hexdigest("".join(lines).encode())
        with write_atomically(self.beside(shard)) as temporary, open(temporary, "wb") as file:
            np.savez(file, keys=keys[kept], signatures=near, dropped=[dropped[reason] for reason in REASONS], checksum=checksum)
        self.writer.write_shard(shard, lines)

    def _refuse_lost(self, texts: list[str], sources: list[str], reasons: list[str | None]) -> None:
        """Drops what the teacher does not find again."""
        k, kept = self.plan.filters.round_trip, [i for i, reason in enumerate(reasons) if reason is None]
        if k and kept and self.teacher:
            found = self.teacher.found([texts[i] for i in kept], [sources[i] for i in kept], k)
            for i in np.array(kept)[~found]:
                reasons[i] = "round trip"

    def join(self) -> None:
        """The whole file out of its shards; refuses to write one in which a query of an evaluation split is."""
        beside = [self._read_beside(shard) for shard in range(self.plan.shards)]
        dropped = dict(zip(REASONS, np.sum([part["dropped"] for part in beside], axis=0).tolist(), strict=True))
        again = find_duplicates(np.concatenate([part["keys"] for part in beside]))
        dropped["duplicate"] = int(again.sum())
        if similarity := self.plan.filters.near_duplicates:
            near = find_near_duplicates(np.concatenate([part["signatures"] for part in beside]), similarity) & ~again
            dropped["near duplicate"] = int(near.sum())
            again |= near
        sample: list[str] = []
        kept = int((~again).sum())
        if not kept:
            raise BadInput(
                f"{self.writer.folder}: nothing is left of {self.plan.count} queries: {describe_dropped(dropped)}: loosen the filters"
            )
        self.writer.write_file(self._checked(iter(again), max(1, kept // SAMPLE), sample))
        measure_diversity = self._diversity(sample)
        self.writer.finish({"lines": kept, "dropped": dropped, "diversity": measure_diversity, "provenance": collect_provenance()})
        print(f"{self.writer.file}: {kept} queries; dropped: {describe_dropped(dropped)}")
        for name, values in measure_diversity.items():
            print(f"  {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in values.items()))

    def _checked(self, again: Iterator[bool], every: int, sample: list[str]) -> Iterator[str]:
        """The lines that are no repeats; a text of every so many goes into `sample`."""
        kept = 0
        for shard, lines in self.writer.read_shards():
            for line in lines:
                if next(again):
                    continue
                text = json.loads(line)["text"]
                if self.known.leaks(split_words(text)):
                    raise BadInput(f"{self.writer.shard_path(shard)}: {text!r} is a query of an evaluation split: delete the folder")
                if kept % every == 0:
                    sample.append(text)
                kept += 1
                yield line

    def _diversity(self, sample: list[str]) -> dict[str, dict[str, float]]:
        real = self.plan.material.queries
        return measure_diversity(sample, real.read(np.linspace(0, len(real) - 1, min(SAMPLE, len(real))).astype(int)), self.teacher)

    def beside(self, shard: int) -> Path:
        return self.writer.shard_path(shard).with_suffix(".part.npz")

    def _read_beside(self, shard: int) -> dict[str, np.ndarray]:
        """What lies beside a shard; refuses one of which either changed."""
        path = self.writer.shard_path(shard)
        with suppress(OSError, ValueError, EOFError, KeyError, BadZipFile), np.load(self.beside(shard), allow_pickle=False) as found:
            if str(found["checksum"]) == file_fingerprint(path):
                return dict(found)
        raise BadInput(f"{path}: it, or what lies beside it, changed since it was written: delete it and start again")


def describe_dropped(dropped: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in dropped.items() if count) or "none"


def generate(
    generator: Generator,
    source: TextSource,
    out: str,
    count: int,
    split: str = "train",
    seed: int = 0,
    filters: Filters = Filters(),  # noqa: B008, frozen
    store: str | None = None,
) -> None:
    """Writes queries made by a generator, without duplicates and without any query that another split asks.

    Leaves OUT/NAME.jsonl, where NAME is the folder's, for `distill encode --queries` and `--data.queries` of train. Run again after a
    kill it goes on and leaves the same bytes; under torchrun every rank makes its own shards.

    Args:
        generator: who makes them: Noise, Crop, ...
        source: where documents and real queries come from.
        out: folder to write.
        count: queries to make; the filters leave fewer.
        split: the real queries to learn from, a+b for two splits; those of all others, the holdout too, are never written.
        seed: of every choice.
        filters: which of the made queries are kept.
        store: the teacher's store, for filters.round_trip and to say how near to real queries the generated ones are.
    """
    if count < 1:
        raise BadInput(f"count: {count}: must be at least 1")
    if filters.round_trip and (generator.reads != "documents" or store is None):
        raise BadInput("filters.round_trip: asks a teacher for the document a query came from: give --store and a generator of documents")
    asked = None if store is None else TeacherStore(store)
    if asked:
        check_documents(asked.documents, source)
    material = Material(source, split)
    plan = GenerationPlan(generator, material, count, seed, filters)
    folder = Path(out)
    writer = LineShardWriter(folder, folder.resolve().name, plan.inputs(), plan.shards, "generated queries")
    if writer.finished:
        return print(f"{writer.file}: done before")
    maker = ShardWriter(plan, RealQueries(material.evaluation_queries(), material.queries), RoundTrip(asked) if asked else None, writer)
    generator.prepare(material)
    rank, world = launched_rank(), launched_world_size()

    def share() -> list[int]:
        return [shard for shard in writer.missing_shards() if shard % world == rank]

    generator.announce(plan.texts, plan.rows(writer.missing_shards()))  # by all ranks together
    with writer.claim(is_leader=rank == 0):
        missing = share()  # again: another process may just have written some
        with progress_bar(total=len(plan.rows(missing)), desc=f"generate {folder.name}", unit=" queries") as bar:
            for shard in missing:
                maker.make(shard, bar.update)
        while rank == 0 and writer.missing_shards():  # other ranks are still at theirs
            time.sleep(1)
        if rank == 0 and not writer.finished:
            maker.join()
