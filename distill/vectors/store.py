"""VectorStore: the vectors of one set of texts by one model, by id, in memory-mapped fp16 shards; TeacherStore: several of these."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distill.encoders.maker import Maker
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.files.sampling import evenly_spaced_rows
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors.array_file import ArrayFile, ArrayFiles
from distill.vectors.store_plan import IDS, MANIFEST, ORDER, PLAN, REMEDY, read_manifest, shard_name

# bytes of this process's memory that a look-up may take: the system also maps what lies around a row, up to a huge page (Linux 6.18)
MAPPED_PER_ROW = 1 << 21
MOST_MAPPED = 1 << 28
LENGTHS_SAMPLED = 1000  # vectors whose lengths stand for those of all


class VectorStore:
    """N vectors of width D by row and by id; files are opened when they are used, by every worker process anew.

    What is read is what the files held when they were opened; where another process changed them meanwhile, reading is refused.

    Args:
        folder: as `distill encode` or `distill import` leaves it.

    Attributes:
        shape: (N, D).
        ids: N ids.
        maker: the model that wrote the vectors.
        texts: fingerprint of the texts; None where only their ids are known.
        checksums: of each file.

    Raises:
        BadInput: the store is unfinished or its manifest makes no sense; where a file is used, that it is missing or has another size.
            `verify` reads every byte.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / MANIFEST).exists():
            state = "this store is unfinished" if (self.folder / PLAN).exists() else "no vector store"
            raise BadInput(f"{folder}: {state}: run distill encode or import")
        self._plan, self.checksums = read_manifest(self.folder)
        self._mapped = 0  # bytes

    def __len__(self) -> int:
        return self._plan.rows

    def __repr__(self) -> str:
        return f"VectorStore({str(self.folder)!r}: {len(self)} vectors, {self.width} wide, by {self.maker.name})"

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}  # a copy of an open memory map would hold its data

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    @property
    def width(self) -> int:
        return self._plan.width

    @property
    def shape(self) -> tuple[int, int]:
        return self._plan.rows, self._plan.width

    @property
    def maker(self) -> Maker:
        return self._plan.maker

    @property
    def texts(self) -> str | None:
        return self._plan.texts

    @property
    def identity(self) -> str:
        """The same for stores whose files hold the same, wherever they are."""
        return fingerprint(self.checksums)

    @property
    def ids(self) -> Ids:
        for file in self._id_files:
            file.require_unchanged()
        return self._ids

    @cached_property
    def _ids(self) -> Ids:
        ids, order = self._id_files
        return Ids(ids.array, order=order.array)

    @cached_property
    def _id_files(self) -> list[ArrayFile]:
        return [self._open(name, (len(self),)) for name in (IDS, ORDER)]

    @cached_property
    def _shards(self) -> list[ArrayFile]:
        return [self._open(shard_name(shard), (size, self.width)) for shard, size in enumerate(self._plan.shard_sizes)]

    @cached_property
    def _shard_rows(self) -> ArrayFiles:
        return ArrayFiles(self._shards, np.dtype(np.float16))

    def _open(self, name: str, shape: tuple[int, ...]) -> ArrayFile:
        file = ArrayFile(self.folder / name, REMEDY, self.checksums.get(name))
        if file.array.shape != shape:
            raise BadInput(f"{file.path}: holds {file.array.shape}, the manifest says {shape}: {REMEDY}")
        return file

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Reads consecutive rows [n, D] float16 without the memory map, so that a scan leaves nothing in this process's memory."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError(f"a run of rows has step 1, not {step}: use take for others")
        vectors = np.empty((max(0, stop - start), self.width), np.float16)
        self.read(start, vectors)
        return vectors

    def read(self, start: int, into: np.ndarray) -> None:
        """Fills `into` [n, D] float16 with the rows from `start` on, as slices are read."""
        stop, size = start + len(into), self._plan.rows_per_shard
        for shard in range(start // size, -(-stop // size)):
            first, last = max(start, shard * size), min(stop, (shard + 1) * size)
            if first < last:
                self._shards[shard].read(first - shard * size, into[first - start : last - start])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Looks up the vectors [n, D] float16 of any rows [n] int64, in that order."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows from {rows.min()} to {rows.max()}: the store has {len(self)}")
        if len(rows) > 1 and (np.diff(rows) == 1).all():  # to read a run is faster
            return self[int(rows[0]) : int(rows[-1]) + 1]
        vectors = np.empty((len(rows), self.width), np.float16)
        self._shard_rows.take(*np.divmod(rows, self._plan.rows_per_shard), vectors)
        self._release_mapped(len(rows))
        return vectors

    def _release_mapped(self, rows: int) -> None:
        """Unmaps what look-ups have mapped once it is much; it stays in the system's cache of files."""
        self._mapped += rows * MAPPED_PER_ROW
        if self._mapped > MOST_MAPPED:
            for shard in self._shards:
                shard.unmap()
            self._mapped = 0

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.linalg.norm(self.take(evenly_spaced_rows(len(self), LENGTHS_SAMPLED)).astype(np.float32), axis=1)

    @property
    def normalized(self) -> bool:
        """Whether the vectors have length 1: 99% of a sample, as the vector of an empty text may be 0."""
        return bool(np.mean(np.abs(self._lengths - 1) <= 1e-2) >= 0.99)

    @property
    def has_cosine_scores(self) -> bool:
        """Whether inner products are about as large as cosines: most vectors have length 1, or less where dimensions were cut off."""
        return bool(np.median(self._lengths) < 1.5)

    def verify(self) -> None:
        """Reads every file once; refuses one whose bytes are not those that were written."""
        for name in self._plan.files:
            path = self.folder / name
            if not path.exists():
                raise BadInput(f"{path}: missing: {REMEDY}")
            if file_fingerprint(path) != self.checksums.get(name):
                raise BadInput(f"{path}: its bytes changed since it was written: {REMEDY}")


class TeacherStore:
    """A folder of stores by one teacher: `documents/`, and `queries-NAME/` for each set of queries.

    Args:
        folder: as `distill encode` or `distill import` leaves it.

    Attributes:
        documents: the vectors of the corpus.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.documents = VectorStore(self.folder / "documents")

    def __repr__(self) -> str:
        sets = ", ".join(sorted(self.query_sets())) or "none"
        documents = f"{len(self.documents)} documents, {self.documents.width} wide, by {self.maker.name}"
        return f"TeacherStore({str(self.folder)!r}: {documents}; queries: {sets})"

    @property
    def maker(self) -> Maker:
        return self.documents.maker

    def queries(self, name: str, fingerprints: tuple[str, ...]) -> VectorStore:
        """Opens the vectors of the query set `name`; refuses vectors of other texts than `fingerprints` name, or by another teacher."""
        folder = self.folder / f"queries-{name}"
        if not folder.exists():
            known = ", ".join(sorted(self.query_sets())) or "none"
            verb = "import" if self.maker.origin == "import" else "encode"
            raise BadInput(f"{self.folder}: no vectors of the queries {name!r} (there are: {known}): run distill {verb} for them")
        store = VectorStore(folder)
        check_texts(store, fingerprints, f"the queries {name!r}")
        if store.maker.fingerprint != self.maker.fingerprint:
            raise BadInput(f"{folder}: made by {store.maker.name}, but documents by another teacher ({self.maker.name})")
        return store

    def query_sets(self) -> Iterator[str]:
        """Yields the names of the sets of queries, in no order."""
        return (path.name.removeprefix("queries-") for path in self.folder.glob("queries-*"))


def check_texts(store: VectorStore, fingerprints: tuple[str, ...], what: str) -> None:
    """Refuses a store whose vectors are of other texts than those with one of these fingerprints, which are `what`."""
    if store.texts is not None and store.texts not in fingerprints:
        fix = f"delete {store.folder} and encode again, or name the store of these"
        raise BadInput(f"{store.folder}: its vectors are not of {what} as they are now: {fix}")
