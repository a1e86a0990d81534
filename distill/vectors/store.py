"""VectorStore: a maker's vectors of one set of texts, by id, in memory-mapped fp16 shards.

documents/
  plan.json        what is being made, from what, by whom; written first
  ids.npy          [N] ids as UTF-8 bytes, in row order
  order.npy        [N] rows sorted by id
  00000.npy ...    [ROWS_PER_SHARD, D] float16, each written under a temporary name
  manifest.json    the plan and every shard's checksum; written last: its existence means the shards are complete
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distill.encoders.maker import Maker
from distill.files.atomic import read_json
from distill.files.fingerprints import file_fingerprint
from distill.records import BadInput
from distill.texts.ids import Ids

# rows, and numbers of each, that a manifest may claim: a look-up makes room for its rows before it reads them
MOST_ROWS, WIDEST = 1 << 40, 1 << 20
AGAIN = "delete the store and run distill encode or import again"
# bytes that a look-up makes part of this process's memory: the system maps what lies around a row too, up to a huge page since Linux 6.18
MAPPED_PER_ROW = 1 << 21
MOST_MAPPED = 1 << 28


class VectorStore:
    """Rows of vectors by id; opened lazily, so that every worker process maps the files itself.

    Raises BadInput when the store is incomplete or a shard has the wrong size; `verify` also reads every byte.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._mapped = 0
        if not (self.folder / "manifest.json").exists():
            found = "this store is unfinished" if (self.folder / "plan.json").exists() else "no vector store"
            raise BadInput(f"{folder}: {found}: run distill encode or import")
        self.manifest = read_json(self.folder / "manifest.json", "store manifest")
        try:
            self.width: int = self.manifest["width"]
            self.maker = Maker.from_json(self.manifest["maker"], f"{folder}/manifest.json")
            self.texts: str | None = self.manifest["texts"]  # fingerprint of the texts; None where only ids are known
            self._rows: int = self.manifest["rows"]
            self._rows_per_shard: int = self.manifest["rows_per_shard"]
            self.checksums: dict[str, str] = self.manifest["checksums"]
        except (KeyError, TypeError) as error:
            raise BadInput(f"{folder}/manifest.json: not a store manifest: {error} is missing") from None
        if not (
            all(type(number) is int and number >= least for number, least in ((self._rows, 0), (self.width, 1), (self._rows_per_shard, 1)))
            and isinstance(self.checksums, dict)
            and self.width <= WIDEST
            and max(self._rows, self._rows_per_shard) <= MOST_ROWS
            and len(self.checksums) == 2 + -(-self._rows // self._rows_per_shard)  # of ids, of their order, of each shard
            and (self.texts is None or isinstance(self.texts, str))
        ):
            raise BadInput(f"{folder}/manifest.json: not a store manifest: rows, width, maker, texts or checksums make no sense: {AGAIN}")

    def __len__(self) -> int:
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}  # a copy of an open memory map would hold its data

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    @property
    def shape(self) -> tuple[int, int]:
        return self._rows, self.width

    @cached_property
    def ids(self) -> Ids:
        raw, order = (self._open(name, (self._rows,)) for name in ("ids.npy", "order.npy"))
        return Ids(raw, order=order)

    @cached_property
    def _shards(self) -> list[np.memmap]:
        sizes = shard_sizes(self._rows, self._rows_per_shard)
        return [self._open(shard_name(i), (size, self.width)) for i, size in enumerate(sizes)]

    def _open(self, name: str, shape: tuple[int, ...]) -> np.memmap:
        try:
            array = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy reads the header as Python: there is much it can raise
            raise BadInput(f"{self.folder / name}: missing or truncated ({' '.join(str(error).split())[:200]}): {AGAIN}") from None
        if array.shape != shape:
            raise BadInput(f"{self.folder / name}: holds {array.shape}, the manifest says {shape}: {AGAIN}")
        return array

    def __getitem__(self, rows: slice) -> np.ndarray:
        """A run of rows [n, D] float16. Read, not mapped: a scan of the corpus leaves nothing in this process's memory."""
        start, stop, step = rows.indices(self._rows)
        if step != 1:
            raise IndexError(f"a run of rows has step 1, not {step}: use take for others")
        vectors, size = np.empty((max(0, stop - start), self.width), np.float16), self._rows_per_shard
        for shard in range(start // size, -(-stop // size)):
            first, last = max(start, shard * size), min(stop, (shard + 1) * size)
            if first < last:
                _read(self._shards[shard], first - shard * size, vectors[first - start : last - start])
        return vectors

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Vectors [n, D] float16 of any rows [n] int64, in that order."""
        vectors = np.empty((len(rows), self.width), np.float16)
        shards, within = np.divmod(rows, self._rows_per_shard)
        for shard in np.unique(shards):
            here = shards == shard
            vectors[here] = self._shards[shard][within[here]]
        self._release_mapped(len(rows))
        return vectors

    def _release_mapped(self, rows: int) -> None:
        """Unmaps what look-ups have mapped before it is too much; it stays in the system's cache of files."""
        self._mapped += rows * MAPPED_PER_ROW
        if self._mapped > MOST_MAPPED:
            for shard in self._shards:
                assert isinstance(shard.base, mmap.mmap)
                shard.base.madvise(mmap.MADV_DONTNEED)
            self._mapped = 0

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.linalg.norm(self[:1000].astype(np.float32), axis=1)

    @property
    def normalized(self) -> bool:
        """Whether the vectors have length 1: of the first thousand nearly all do, as an empty text may have none."""
        return bool(np.mean(np.abs(self._lengths - 1) <= 1e-2) >= 0.99)

    @property
    def has_cosine_scores(self) -> bool:
        """Whether inner products of the vectors are as large as cosines: most have length 1, or less where they were cut short."""
        return bool(np.median(self._lengths) < 1.5)

    def verify(self) -> None:
        """Reads every file once and compares its checksum with the manifest."""
        names = ["ids.npy", "order.npy", *(shard_name(i) for i in range(len(shard_sizes(self._rows, self._rows_per_shard))))]
        for name in names:
            path, checksum = self.folder / name, self.checksums.get(name)
            if not path.exists():
                raise BadInput(f"{path}: missing: {AGAIN}")
            if file_fingerprint(path) != checksum:
                raise BadInput(f"{path}: its bytes changed since it was written: {AGAIN}")


def _read(shard: np.memmap, row: int, into: np.ndarray) -> None:
    """The rows of a shard from `row` on, as many as `into` [n, D] takes."""
    if not shard.flags.c_contiguous or shard.dtype != into.dtype:
        into[:] = shard[row : row + len(into)]
        return
    with open(str(shard.filename), "rb", buffering=0) as file:
        file.seek(shard.offset + row * into.shape[1] * into.itemsize)
        view, done = into.reshape(-1).view(np.uint8).data, 0
        while done < len(view):  # a single call may read less
            read = file.readinto(view[done:])
            if not read:
                raise BadInput(f"{shard.filename}: shorter than it says: delete the store and run distill encode")
            done += read


def shard_name(index: int) -> str:
    return f"{index:05d}.npy"


def shard_sizes(rows: int, rows_per_shard: int) -> list[int]:
    return [min(rows_per_shard, rows - start) for start in range(0, rows, rows_per_shard)]


class TeacherStore:
    """A folder of stores by one teacher: `documents/`, and `queries-NAME/` for each set of queries."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.documents = VectorStore(self.folder / "documents")

    @property
    def maker(self) -> Maker:
        return self.documents.maker

    def queries(self, name: str, texts_fingerprint: str) -> VectorStore:
        """The vectors of the query set `name`; refuses vectors of other texts or by another teacher."""
        folder = self.folder / f"queries-{name}"
        if not folder.exists():
            known = ", ".join(sorted(self.query_sets())) or "none"
            verb = "import" if self.maker.origin == "import" else "encode"
            raise BadInput(f"{self.folder}: no vectors of the queries {name!r} (there are: {known}): run distill {verb} for them")
        store = VectorStore(folder)
        check_texts(store, texts_fingerprint, f"the queries {name!r}")
        if store.maker.fingerprint != self.maker.fingerprint:
            raise BadInput(f"{folder}: made by {store.maker.name}, but documents by another teacher ({self.maker.name})")
        return store

    def query_sets(self) -> Iterator[str]:
        return (path.name.removeprefix("queries-") for path in self.folder.glob("queries-*"))


def check_texts(store: VectorStore, fingerprint: str, what: str) -> None:
    """Refuses a store whose vectors were made from other texts than the ones in hand."""
    if store.texts is not None and store.texts != fingerprint:
        raise BadInput(f"{store.folder}: its vectors are not of {what} as they are now: encode them into another --out")
