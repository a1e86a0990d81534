"""Times each kind of work of a job on this machine, in a few seconds: with its own teacher, student and texts, and random vectors."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from distill.data.datamodule import RetrievalData
from distill.encoders.batching import batch_memory
from distill.encoders.device_batches import TOKENS_PER_BATCH, length_batches, tokens_for
from distill.encoders.encoder import Encoder
from distill.encoders.maker import Maker
from distill.encoders.students import StudentSpec, TeacherSpace
from distill.encoders.tokenizing import Role
from distill.evaluation.latency import as_served, measure_query_latency, one_core, pytorch_path
from distill.files.device import best_device, used_memory
from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.modules.student import StudentModule
from distill.planning.amounts import Amount
from distill.planning.rates import UnitTimes
from distill.shrinking.budget import measure_rate
from distill.shrinking.splits import DEV, MOST_DEV
from distill.teachers.local import LocalTeacher
from distill.teachers.shard_size import rows_for_rate
from distill.texts.text_source import TRAIN, TextSource
from distill.texts.texts import Texts
from distill.vectors.search import search
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import ROWS_PER_SHARD, StoreWriter

NUMBERS, MOST_ROWS = 16 << 20, 40_000  # of the vectors that are written and searched
FEW, MANY, TOP = 8, 256, 100  # queries of two searches, from which the cost of a document and of a pair follow; documents to find
REPEATS = 3  # of each search; the fastest counts
STEPS = 24  # of training
LATENCY_ROUNDS, WARM_UP = 10, 2
SAMPLES = (2, 8, 32, 128, 512, 4096)  # texts that are embedded, one sample after the other
FEWEST_TEXTS, ENOUGH = 8, 0.8  # texts of a sample, and its seconds, from which it tells the rate
LONG_ENOUGH = 10.0  # seconds of a sample of a slow model, however few its texts are


@dataclass(frozen=True)
class Measurements:
    """What was measured on this machine.

    Args:
        times: of each unit of work.
        encoding: bytes of memory that a process takes while it embeds.
        training: the same while it trains; None where nothing was trained.
    """

    times: UnitTimes
    encoding: int
    training: int | None = None


class Miniature(TextSource):
    """Some queries of a job, and documents that are numbers."""

    def __init__(self, train: Sequence[str], dev: Sequence[str], documents: int):
        super().__init__()
        self._train, self._dev, self._documents = train, dev, documents

    def load_documents(self) -> Texts:
        names = [str(number) for number in range(self._documents)]
        return Texts.from_lists(names, names)

    def list_splits(self) -> list[str]:
        return [TRAIN, DEV]

    def load_queries(self, split: str) -> Texts:
        # numbers in those of dev: none of them has the wording of a training query, which would be left out
        texts = self._train if split == TRAIN else [f"{text} {number}" for number, text in enumerate(self._dev)]
        return Texts.from_lists([f"{split}{number}" for number in range(len(texts))], texts)


def make_student(spec: StudentSpec, teacher: LocalTeacher) -> Encoder:
    """Makes the student as it is before its training, or nearly: a projection is not fitted."""
    return spec.make_student(TeacherSpace(teacher.maker, teacher.width, teacher.towers.query.normalizes)).eval()


def measure(
    teacher: LocalTeacher, spec: StudentSpec, documents: Amount, queries: Amount, dev: Amount, candidates: int, batch_size: int
) -> Measurements:
    """Measures every kind of work of a job here, on the GPU where there is one."""
    log.info("measuring how fast this teacher embeds here")
    document = time_embedding(teacher, documents.sample, "document", documents.count)
    query = time_embedding(teacher, queries.sample, "query", queries.count)
    encoding = measure_encoding_memory(teacher)
    log.info("measuring how fast vectors are written and searched here, and a student is trained")
    rows = min(MOST_ROWS, NUMBERS // teacher.width)
    with tempfile.TemporaryDirectory(prefix=".distill-plan-", dir=".") as folder:
        source = Miniature(queries.sample, dev.sample[: min(dev.count, MOST_DEV)], rows)
        byte = write_random_vectors(source.documents(), "document", Path(folder) / "documents", teacher.maker, teacher.width)
        for split in source.splits():
            write_random_vectors(source.queries(split), "query", Path(folder) / f"queries-{split}", teacher.maker, teacher.width)
        pair, scan = time_search(VectorStore(Path(folder) / "documents"))

        def make_data() -> RetrievalData:
            return RetrievalData(source, folder, candidates=candidates, batch_size=batch_size)

        rate = measure_rate(lambda: StudentModule(spec), make_data, STEPS)
    searched = len(source.queries(DEV))
    overhead = max(0.0, rate.evaluation - 2 * rows * (scan + searched * pair))  # the teacher's search and the student's
    times = UnitTimes(
        device=f"this machine, {best_device().type}",
        document=document,
        query=query,
        step=rate.step * max(1.0, batch_size / len(source.queries(TRAIN))),  # a step of fewer queries was timed, where there are no more
        evaluation=overhead,
        pair=pair,
        scan=scan,
        byte=byte,
        latency=time_latency(teacher, make_student(spec, teacher), queries.sample),
    )
    return Measurements(times, encoding, used_memory(torch.device("cpu")))


def measure_encoding_memory(teacher: LocalTeacher) -> int:
    """Bytes of main memory that this process takes while the teacher embeds a batch, with what it has taken so far."""
    cpu, used = torch.device("cpu"), used_memory(torch.device("cpu")) or 0
    if best_device() != cpu:
        return used
    return used + batch_memory(TOKENS_PER_BATCH["cpu"], teacher.towers.document.transformer.numbers_per_token, teacher.precision)


def time_embedding(teacher: LocalTeacher, texts: Sequence[str], role: Role, count: int) -> float:
    """Measures the seconds in which a teacher embeds one of `count` texts, on samples that grow until one takes long enough.

    The more texts are sorted by length at once, the less they are padded: what is measured is the time of a padded token.
    """
    prepared = teacher.prepare(texts, role)
    seconds, padded = 0.0, 1
    for size in SAMPLES:
        part = [prepared[row] for row in evenly_spaced_rows(len(prepared), size)]
        padded = count_padded([len(ids) for ids in part], tokens_for(teacher.towers.device, TOKENS_PER_BATCH))
        start = time.perf_counter()
        teacher.embed(part, role, lambda done: None)
        seconds = time.perf_counter() - start
        if seconds >= LONG_ENOUGH or (seconds >= ENOUGH and size >= FEWEST_TEXTS):
            break
    return seconds / padded * pad_text([len(ids) for ids in prepared], seconds / padded, count, teacher.towers.device)


def pad_text(lengths: Sequence[int], token_seconds: float, count: int, device: torch.device) -> float:
    """The mean tokens of a text with its padding, as `encode` embeds it: batches are of the texts of one shard.

    Args:
        lengths: of some of the texts.
        token_seconds: that a padded token takes, which decides how many texts a shard has.
        count: number of all texts.
        device: which embeds them.
    """
    rows = rows_for_rate(1 / (token_seconds * float(np.mean(lengths))), count, ROWS_PER_SHARD)
    shard = [lengths[row] for row in evenly_spaced_rows(len(lengths), min(rows, count))]
    return count_padded(shard, tokens_for(device, TOKENS_PER_BATCH)) / len(shard)


def count_padded(lengths: Sequence[int], most: int) -> int:
    """Counts the tokens of texts with the padding of their batches, each of which has `most` tokens.

    >>> count_padded([3, 9, 4], most=9)
    17
    """
    return sum(len(rows) * max(1, lengths[rows[0]]) for rows in length_batches(lengths, most))


def write_random_vectors(texts: Texts, role: Role, folder: Path, maker: Maker, width: int) -> float:
    """Writes a store of random unit vectors in the name of a teacher; returns the seconds of a byte."""
    writer = StoreWriter(folder, texts.ids, width, replace(maker, role=role), texts.fingerprints(role)[0])
    seconds = 0.0
    for shard, rows in writer.missing_shards():
        vectors = torch.randn(len(rows), width, generator=torch.Generator().manual_seed(shard))
        halves = torch.nn.functional.normalize(vectors, dim=1).numpy()
        start = time.perf_counter()
        writer.write_shard(shard, halves)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    writer.finish()
    return (seconds + time.perf_counter() - start) / (2 * len(texts) * width)


def time_search(documents: VectorStore) -> tuple[float, float]:
    """Measures the seconds that exact search takes for a pair of query and document, and for a document beside that."""
    queries = torch.randn(MANY, documents.width, generator=torch.Generator().manual_seed(1)).to(best_device())
    few, many = (min(_time_once(queries[:count], documents) for _ in range(REPEATS)) for count in (FEW, MANY))
    pair = max(0.0, many - few) / ((MANY - FEW) * len(documents))
    return pair, max(0.0, few / len(documents) - FEW * pair)


def _time_once(queries: torch.Tensor, documents: VectorStore) -> float:
    start = time.perf_counter()
    search(queries, documents, TOP)[1].cpu()  # waits for the device
    return time.perf_counter() - start


def time_latency(teacher: LocalTeacher, student: Encoder, queries: Sequence[str]) -> float:
    """Measures the seconds that teacher and student take for a query each, one at a time on one core."""
    own = as_served(teacher.towers).query
    with one_core([own, student]):
        paths = {"teacher": pytorch_path(own), "student": pytorch_path(student)}
        measured = measure_query_latency(paths, queries, LATENCY_ROUNDS, WARM_UP)
    return sum(latency["query_latency_ms_p50"] for latency in measured.values()) / 1000
