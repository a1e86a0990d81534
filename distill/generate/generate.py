"""`generate`: writes queries, made from real queries or from documents, into a file for training."""

from __future__ import annotations

import time
from pathlib import Path

from distill.files.atomic import read_json
from distill.files.launch import read_launch
from distill.files.line_shards import LineShardWriter
from distill.files.progress import log, progress_bar
from distill.generate.filters import Filters, RealQueries
from distill.generate.generator import Generator
from distill.generate.join import GeneratedQueries, join_shards
from distill.generate.material import Material
from distill.generate.plan import GenerationPlan
from distill.generate.round_trip import RoundTripTeacher
from distill.generate.shards import ShardMaker
from distill.records import BadInput
from distill.texts.text_source import TextSource
from distill.vectors.resident import keep_corpora
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore

LONGEST_SILENCE = 3600.0  # seconds without a new shard of another rank, after which it is taken for dead


def generate(
    generator: Generator,
    source: TextSource,
    out: str,
    count: int,
    split: str = "train",
    seed: int = 0,
    filters: Filters = Filters(),  # noqa: B008, frozen
    store: str | None = None,
) -> GeneratedQueries | None:
    """Writes queries made by a generator, without duplicates and without any query of another split.

    The file is OUT/NAME.jsonl, where NAME is the name of the folder OUT; `distill encode --queries` and `--data.queries` of train read
    it. A second call after a kill goes on and writes the same bytes. Under torchrun or srun every rank makes its own shards.

    Args:
        generator: makes the queries, e.g. Noise or Crop.
        source: where documents and real queries come from.
        out: folder to write.
        count: number of queries to make, before the filters drop some.
        split: split of the real queries to learn from, a+b for two splits; queries of all other splits and of the holdout are never
            written.
        seed: seed of every random choice.
        filters: settings of the filters.
        store: the teacher's store, for filters.round_trip and to measure how close generated queries are to real ones.

    Returns:
        the file and its counts; None on every rank but the first, which joins the shards.

    Raises:
        BadInput: options that do not fit one another, a folder made from other inputs, or filters that leave nothing.
    """
    if count < 1:
        raise BadInput(f"count: {count}: must be at least 1")
    if filters.round_trip and (generator.reads != "documents" or store is None):
        raise BadInput("filters.round_trip: asks a teacher for the document a query came from: give --store and a generator of documents")
    teacher_store = _open_store(store, source)
    material = Material(source, split)
    plan = GenerationPlan(generator, material, count, seed, filters)
    folder = Path(out)
    writer = LineShardWriter(folder, folder.resolve().name, plan.describe(teacher_store), plan.shards, "generated queries")
    if writer.finished:
        log.info(f"{writer.file}: done before")
        return _read_result(writer)
    real = RealQueries(material.evaluation_queries(), material.queries)
    teacher = None if teacher_store is None else RoundTripTeacher(teacher_store)
    generator.prepare(material)
    generator.check_cost(plan.texts, plan.text_rows(writer.missing_shards()))  # the cost over all ranks
    return _make_file(ShardMaker(plan, real, teacher, writer))


def _open_store(store: str | None, source: TextSource) -> TeacherStore | None:
    if store is None:
        return None
    teacher_store = TeacherStore(store)
    check_documents(teacher_store.documents, source)
    return teacher_store


@keep_corpora()
def _make_file(maker: ShardMaker) -> GeneratedQueries | None:
    """Makes this rank's share of the missing shards; the first rank waits for the others and writes the file."""
    plan, writer = maker.plan, maker.writer
    launch = read_launch()
    with writer.claim(is_leader=launch.rank == 0):
        # listed after the claim, as another process may have written some shards before it
        missing = [shard for shard in writer.missing_shards() if shard % launch.world_size == launch.rank]
        with progress_bar(total=len(plan.text_rows(missing)), desc=f"generate {writer.folder.name}", unit=" queries") as bar:
            for shard in missing:
                maker.make(shard, bar.update)
        if launch.rank != 0:
            return None
        _wait_for_others(writer)
        return _read_result(writer) if writer.finished else join_shards(maker)


def _wait_for_others(writer: LineShardWriter) -> None:
    """Returns when the other ranks have made their shards; refuses to wait for ranks that write nothing any more."""
    start, left = time.monotonic(), len(writer.missing_shards())
    while left:
        time.sleep(1)
        before, left = left, len(writer.missing_shards())
        if left < before:
            start = time.monotonic()
        if time.monotonic() - start > LONGEST_SILENCE:
            minutes = LONGEST_SILENCE / 60
            raise BadInput(f"{writer.folder}: {left} shards of other ranks are missing, none came for {minutes:.0f} minutes: run it again")


def _read_result(writer: LineShardWriter) -> GeneratedQueries:
    """Reads the result of an earlier call."""
    path = writer.folder / "manifest.json"
    manifest = read_json(path, "manifest of generated queries")
    try:
        return GeneratedQueries(writer.file, manifest["lines"], manifest["dropped"], manifest["diversity"], existed=True)
    except (KeyError, TypeError):
        raise BadInput(f"{path}: no manifest of generated queries: delete the folder and start again") from None
