"""Writing a VectorStore: resumable after a kill, by any number of processes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from distill.encoders.maker import Maker
from distill.files.atomic import has_files, read_json, refuse_other_inputs, write_atomically, write_json
from distill.files.fingerprints import file_fingerprint
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors.store import AGAIN, shard_name, shard_sizes

ROWS_PER_SHARD = 8192  # what a kill can lose: about a minute of a small teacher on a laptop
MOST_SHARDS = 256  # each open shard holds a file descriptor; a process commonly has 1,024


class StoreWriter:
    """Writes a store shard by shard; started again after a kill it goes on with the shards that are missing.

    Several processes may write different shards of one store; whoever finishes last writes the manifest.
    """

    def __init__(self, folder: Path, ids: Ids, width: int, maker: Maker, texts: str | None):
        self.folder, self.ids, self.width = Path(folder), ids, width
        self.rows_per_shard = max(ROWS_PER_SHARD, -(-len(ids) // MOST_SHARDS))
        self.plan: dict[str, Any] = {
            "version": 1,
            "rows": len(ids),
            "width": width,
            "rows_per_shard": self.rows_per_shard,
            "maker": maker.to_json(),
            "ids": xxhash.xxh3_64_hexdigest(ids.raw.tobytes()),
            "texts": texts,
        }
        plan = self.folder / "plan.json"
        if not plan.exists():
            # looked for again after the folder was found not empty: another rank may be writing the plan right now
            if has_files(self.folder) and not plan.exists():
                raise BadInput(f"{folder}: not a vector store and not empty: choose another folder")
            with suppress(FileExistsError):  # whoever was faster: its plan holds
                write_json(plan, self.plan, exclusive=True)
        before = read_plan(self.folder)
        # the same model may have moved: its fingerprint tells, not its name
        same_name = replace(Maker.from_json(before["maker"], plan), name=maker.name)
        refuse_other_inputs(self.folder, {**before, "maker": same_name.to_json()}, self.plan)

    def update_name(self) -> None:
        """The maker's name as given now: the same model may have moved since it made the store."""
        path = self.folder / "manifest.json"
        manifest = read_json(path, "store manifest")
        if Maker.from_json(manifest["maker"], path).name != self.plan["maker"]["name"]:
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
        with write_atomically(self.folder / name) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)


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
