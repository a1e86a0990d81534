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
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from distill.artefacts import file_fingerprint, read_json, write_json, written_atomically
from distill.data.ids import Ids
from distill.records import BadInput

# rows, and numbers of each, that a manifest may claim: a look-up makes room for its rows before it reads them
MOST_ROWS, WIDEST = 1 << 40, 1 << 20
ROWS_PER_SHARD = 8192  # what a kill can lose: about a minute of a small teacher on a laptop
AGAIN = "delete the store and run distill encode or import again"
# bytes that a look-up makes part of this process's memory: the system maps what lies around a row too, up to a huge page since Linux 6.18
MAPPED_PER_ROW = 1 << 21
MOST_MAPPED = 1 << 28
MOST_SHARDS = 256  # each open shard holds a file descriptor; a process commonly has 1,024


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
            self.maker: dict[str, Any] = self.manifest["maker"]
            self.texts: str | None = self.manifest["texts"]  # fingerprint of the texts; None where only ids are known
            self._rows: int = self.manifest["rows"]
            self._rows_per_shard: int = self.manifest["rows_per_shard"]
            self.checksums: dict[str, str] = self.manifest["checksums"]
        except (KeyError, TypeError) as error:
            raise BadInput(f"{folder}/manifest.json: not a store manifest: {error} is missing") from None
        if not (
            all(type(number) is int and number >= least for number, least in ((self._rows, 0), (self.width, 1), (self._rows_per_shard, 1)))
            and isinstance(self.maker, dict)
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
        return {"folder": self.folder}  # pickling an open memory map would copy its data

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
        self._let_go(len(rows))
        return vectors

    def _let_go(self, rows: int) -> None:
        """Unmaps what look-ups have mapped before it is too much; it stays in the system's cache of files."""
        self._mapped += rows * MAPPED_PER_ROW
        if self._mapped > MOST_MAPPED:
            for shard in self._shards:
                assert isinstance(shard.base, mmap.mmap)
                shard.base.madvise(mmap.MADV_DONTNEED)
            self._mapped = 0

    @cached_property
    def normalized(self) -> bool:
        """Whether the vectors have length 1 (the first thousand do)."""
        return bool(np.allclose(np.linalg.norm(self[:1000].astype(np.float32), axis=1), 1.0, atol=1e-2))

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


class StoreWriter:
    """Writes a store shard by shard; started again after a kill it goes on with the shards that are missing.

    Several processes may write different shards of one store; whoever finishes last writes the manifest.
    """

    def __init__(self, folder: Path, ids: Ids, width: int, maker: dict[str, Any], texts: str | None):
        self.folder, self.ids, self.width = Path(folder), ids, width
        self.rows_per_shard = max(ROWS_PER_SHARD, -(-len(ids) // MOST_SHARDS))
        self.plan: dict[str, Any] = {
            "version": 1,
            "rows": len(ids),
            "width": width,
            "rows_per_shard": self.rows_per_shard,
            "maker": maker,
            "ids": xxhash.xxh3_64_hexdigest(ids.raw.tobytes()),
            "texts": texts,
        }
        plan = self.folder / "plan.json"
        if not plan.exists():
            # looked for again after the folder was found not empty: another rank may be writing the plan right now
            if self._holds_files() and not plan.exists():
                raise BadInput(f"{folder}: not a vector store and not empty: choose another folder")
            with suppress(FileExistsError):  # whoever was faster: its plan holds
                write_json(plan, self.plan, unless_there=True)
        self._check_plan(read_plan(self.folder))

    def _check_plan(self, plan: dict[str, Any]) -> None:
        for key, value in self.plan.items():
            before = plan.get(key)
            if key == "maker" and isinstance(before, dict):
                before = before | {"name": value["name"]}  # the same model may have moved; its fingerprint tells
            if before != value:
                raise BadInput(
                    f"{self.folder}: made from other inputs ({key} was {before}, now {value}): choose another --out or delete it"
                )

    def _holds_files(self) -> bool:
        return any(not path.name.startswith(".") for path in self.folder.glob("*"))

    def adopt(self) -> None:
        """The maker's name as given now: the same model may have moved since it made the store."""
        manifest = read_json(self.folder / "manifest.json", "store manifest")
        if manifest["maker"] != self.plan["maker"]:
            write_json(self.folder / "manifest.json", {**manifest, "maker": self.plan["maker"]})

    @property
    def finished(self) -> bool:
        return (self.folder / "manifest.json").exists()

    def missing(self) -> list[tuple[int, np.ndarray]]:
        """Shards still to be written, each with the rows it holds."""
        sizes = shard_sizes(len(self.ids), self.rows_per_shard)
        starts = np.arange(len(sizes)) * self.rows_per_shard
        return [
            (i, np.arange(start, start + size))
            for i, (start, size) in enumerate(zip(starts, sizes, strict=True))
            if not (self.folder / shard_name(i)).exists()
        ]

    def write(self, shard: int, vectors: np.ndarray) -> None:
        """One whole shard [n, D]; refuses numbers that are not finite in float16."""
        halves = vectors.astype(np.float16, order="C")  # rows are read as they lie in the file
        if not np.isfinite(halves).all():
            row = int(np.flatnonzero(~np.isfinite(halves).all(axis=1))[0]) + shard * self.rows_per_shard
            raise BadInput(f"{self.folder}: the vector of {self.ids[row]!r} is not finite in float16: check the teacher or its precision")
        self._save(shard_name(shard), halves)

    def finish(self) -> None:
        """Writes ids and manifest once every shard is there; until then it leaves the store unfinished."""
        if self.finished or self.missing():
            return
        self._save("ids.npy", self.ids.raw)
        self._save("order.npy", self.ids.order)
        names = ["ids.npy", "order.npy", *(shard_name(i) for i in range(len(shard_sizes(len(self.ids), self.rows_per_shard))))]
        checksums = {name: file_fingerprint(self.folder / name) for name in names}
        write_json(self.folder / "manifest.json", {**self.plan, "checksums": checksums})

    def _save(self, name: str, array: np.ndarray) -> None:
        with written_atomically(self.folder / name) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)


def shard_name(index: int) -> str:
    return f"{index:05d}.npy"


def shard_sizes(rows: int, rows_per_shard: int) -> list[int]:
    return [min(rows_per_shard, rows - start) for start in range(0, rows, rows_per_shard)]


def read_plan(folder: Path) -> dict[str, Any]:
    """What a store, perhaps an unfinished one, is made of."""
    plan = read_json(folder / "plan.json", "store plan")
    numbers = {"rows": 0, "width": 1, "rows_per_shard": 1}
    whole = isinstance(plan, dict) and all(type(plan.get(name)) is int and plan[name] >= least for name, least in numbers.items())
    if not whole or not isinstance(plan.get("maker"), dict):
        raise BadInput(f"{folder}/plan.json: not the plan of a store: {AGAIN}")
    return plan


def rows_written(folder: Path) -> int:
    """How many rows of a store, perhaps an unfinished one, are on disk; 0 where there is no store."""
    if not (folder / "plan.json").exists():
        return 0
    plan = read_plan(folder)
    sizes = shard_sizes(plan["rows"], plan["rows_per_shard"])
    return sum(size for shard, size in enumerate(sizes) if (folder / shard_name(shard)).exists())


class TeacherStore:
    """A folder of stores by one teacher: `documents/`, and `queries-NAME/` for each set of queries."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.documents = VectorStore(self.folder / "documents")

    @property
    def maker(self) -> dict[str, Any]:
        return self.documents.maker

    def queries(self, name: str, texts_fingerprint: str) -> VectorStore:
        """The vectors of the query set `name`; refuses vectors of other texts or by another teacher."""
        folder = self.folder / f"queries-{name}"
        if not folder.exists():
            known = ", ".join(sorted(self.query_sets())) or "none"
            verb = "import" if "origin" in self.maker else "encode"
            raise BadInput(f"{self.folder}: no vectors of the queries {name!r} (there are: {known}): run distill {verb} for them")
        store = VectorStore(folder)
        check_texts(store, texts_fingerprint, f"the queries {name!r}")
        if store.maker["fingerprint"] != self.maker["fingerprint"]:
            raise BadInput(f"{folder}: made by {store.maker['name']}, but documents by another teacher ({self.maker['name']})")
        return store

    def query_sets(self) -> Iterator[str]:
        return (path.name.removeprefix("queries-") for path in self.folder.glob("queries-*"))


def check_texts(store: VectorStore, fingerprint: str, what: str) -> None:
    """Refuses a store whose vectors were made from other texts than the ones in hand."""
    if store.texts is not None and store.texts != fingerprint:
        raise BadInput(f"{store.folder}: its vectors are not of {what} as they are now: encode them into another --out")
