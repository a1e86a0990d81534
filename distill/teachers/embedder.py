"""The Embedder protocol, a model of any kind that turns texts into vectors, and writing its vectors into a store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from distill.encoders.maker import Maker
from distill.encoders.tokenizing import Role
from distill.files.launch import Launch, read_launch
from distill.files.progress import log, progress_bar
from distill.records import BadInput
from distill.teachers.candidates import PairTexts
from distill.teachers.shard_size import choose_rows_per_shard
from distill.texts.texts import Texts
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

T = TypeVar("T")
R = TypeVar("R")
ROWS_COMPARED = 4  # of a function that goes on with a store
LARGEST_CHANGE, NO_CHANGE = 0.1, 1e-3  # of a row, as a share of its length and beside it: no rounding changes more
Progress = Callable[[int], object]  # called with the number of texts that were embedded since the last call


class Embedder(Protocol):
    """A model that turns each text, or each pair of texts, into a row of numbers: on this machine, on a server, or in a function."""

    @property
    def maker(self) -> Maker:
        """The model, as its stores name it."""

    @property
    def width(self) -> int:
        """Numbers in a row."""

    @property
    def where(self) -> str:
        """Where the model runs, as the end of a log line: `in bf16 on cuda:0`."""

    def prepare(self, texts: Sequence[Any], role: Role) -> Sequence[Any]:
        """Converts texts to the form that `embed` takes. Runs in another thread, while earlier texts are embedded."""

    def embed(self, prepared: Sequence[Any], role: Role, progress: Progress) -> np.ndarray:
        """Returns the vectors [N, D] of N prepared texts, in their order."""


def encode_set(teacher: Embedder, texts: Texts | PairTexts, role: Role, folder: Path, alone: bool = False) -> VectorStore | None:
    """Writes the vectors of one set of texts into one store, shard by shard; shards that exist already are left as they are.

    Of N processes that torchrun or srun started, each writes every N-th shard; `alone`, this one writes all of them.

    Returns:
        The store; None where other processes still have shards to write.
    """

    known: dict[int, np.ndarray] = {}  # vectors of a server by row, as it may be paid for every text that it is asked for

    def embed_rows(rows: np.ndarray) -> int:
        rows = rows[~find_known(rows, known)]
        vectors = teacher.embed(teacher.prepare(texts.read(rows), role), role, lambda done: None)
        if teacher.maker.origin == "server":
            known.update(zip(rows.tolist(), vectors, strict=True))
        return len(rows)

    choose_rows = partial(choose_rows_per_shard, embed_rows, len(texts))
    recorded, *earlier = texts.fingerprints(role)
    writer = StoreWriter(folder, texts.ids, teacher.width, replace(teacher.maker, role=role), recorded, choose_rows, earlier)
    if teacher.maker.origin == "function":
        refuse_changed_function(teacher, texts, role, writer)
    if writer.finished:
        writer.update_name()
        log.info(f"{folder}: done before, {len(texts)} vectors")
    else:
        _write_missing(teacher, texts, role, writer, alone, known)
        writer.finish()
        log.info(f"{folder}: {len(texts)} vectors, {teacher.width} wide")
    return VectorStore(folder) if writer.finished else None


def refuse_changed_function(teacher: Embedder, texts: Texts | PairTexts, role: Role, writer: StoreWriter) -> None:
    """Embeds a few texts again whose rows are stored: nothing but its rows tells a function from another one of the same name.

    Raises BadInput where the function now returns other rows.
    """
    written = writer.read_first(ROWS_COMPARED)
    if written is None:
        return
    rows, stored = written
    again = teacher.embed(teacher.prepare(texts.read(rows), role), role, lambda done: None)
    distances = np.linalg.norm(again - stored, axis=1)
    if (distances > LARGEST_CHANGE * np.linalg.norm(stored, axis=1) + NO_CHANGE).any():
        fix = "choose another --out, or the function that it was"
        raise BadInput(f"{writer.folder}: the function {teacher.maker.name} returns other numbers now than those that are stored: {fix}")


def find_known(rows: np.ndarray, known: Mapping[int, np.ndarray]) -> np.ndarray:
    """Tells for each row whether its vector is known: [N] bool."""
    return np.isin(rows, np.fromiter(known, np.int64, len(known)))


def add_known(rows: np.ndarray, vectors: np.ndarray, known: Mapping[int, np.ndarray]) -> np.ndarray:
    """Returns the vectors [N, D] of N rows: those that are known, and `vectors` for the others.

    >>> add_known(np.array([3, 4, 5]), np.array([[3.0], [5.0]]), {4: np.array([4.0])}).tolist()
    [[3.0], [4.0], [5.0]]
    """
    is_known = find_known(rows, known)
    if not is_known.any():
        return vectors
    whole = np.empty((len(rows), vectors.shape[1]), vectors.dtype)
    whole[~is_known] = vectors
    whole[is_known] = [known[row] for row in rows[is_known].tolist()]
    return whole


def _write_missing(
    teacher: Embedder, texts: Texts | PairTexts, role: Role, writer: StoreWriter, alone: bool, known: Mapping[int, np.ndarray]
) -> None:
    """Embeds one shard while a second thread prepares the next shard and a third thread writes the previous one."""
    launch = Launch() if alone else read_launch()
    missing = [(shard, rows) for shard, rows in writer.missing_shards() if shard % launch.world_size == launch.rank]
    shards = [shard for shard, _ in missing]
    count = sum(len(rows) for _, rows in missing)
    log.info(f"{writer.folder}: {count} texts to encode {teacher.where}")
    with progress_bar(total=count, desc=f"encode {writer.folder.name}", unit=" texts") as bar:
        bar.update(sum(int(find_known(rows, known).sum()) for _, rows in missing))
        asked = (rows[~find_known(rows, known)] for _, rows in missing)
        prepared = map_in_thread(lambda rows: teacher.prepare(texts.read(rows), role), asked)
        vectors = (teacher.embed(part, role, bar.update) for part in prepared)
        whole = (add_known(rows, part, known) for (_, rows), part in zip(missing, vectors, strict=True))
        _write_in_thread(writer, zip(shards, whole, strict=True))


def _write_in_thread(writer: StoreWriter, shards: Iterable[tuple[int, np.ndarray]]) -> None:
    """Writes each shard while the next one is computed; after an error, those that were computed are written first."""
    with ThreadPoolExecutor(1) as thread:  # its end waits
        writes: deque[Future[None]] = deque()
        for shard, vectors in shards:
            writes.append(thread.submit(writer.write_shard, shard, vectors))
            if len(writes) > 1:
                writes.popleft().result()
        for write in writes:
            write.result()


def map_in_thread(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yields `function(item)` for each item, in order; another thread computes the next result while the caller uses the current one.

    >>> list(map_in_thread(str.upper, ["a", "b"]))
    ['A', 'B']
    """
    thread = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(thread.submit(function, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        for last in waiting:
            yield last.result()
    finally:
        # wait=False: after an error the garbage collector may close this generator in that very thread, which would wait for itself
        thread.shutdown(wait=False, cancel_futures=True)
