"""`StoreWriter`: writes a VectorStore, resumably and by any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from distill.encoders.maker import Maker
from distill.files.atomic import has_files, read_json, refuse_other_inputs, write_atomically, write_json
from distill.files.fingerprints import file_fingerprint
from distill.files.progress import log, progress_bar
from distill.files.temporaries import sweep_temporaries
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors.store_plan import IDS, MANIFEST, ORDER, PLAN, StorePlan, read_plan, shard_name
from distill.vectors.vector_files import VectorFiles

ROWS_PER_SHARD = 8192  # a kill loses one shard at most
MOST_SHARDS = 256  # each open shard takes a file descriptor; a process commonly has 1,024


class StoreWriter:
    """Writes a store shard by shard; after a kill a new writer continues with the missing shards.

    Several processes may write different shards of one store; the last one writes the manifest.

    Args:
        folder: to write.
        ids: N ids.
        width: D.
        maker: the model that writes the vectors.
        texts: fingerprint of the texts; None where only their ids are known.
        choose_rows: chooses the rows of a shard of a new store, given the most that it may have; None takes the most. An old store keeps
            its own.
        earlier_texts: fingerprints of the same texts that earlier releases recorded; an old store keeps its own.

    Raises:
        BadInput: the folder holds something else, or a store of other inputs.
    """

    def __init__(
        self,
        folder: str | Path,
        ids: Ids,
        width: int,
        maker: Maker,
        texts: str | None,
        choose_rows: Callable[[int], int] | None = None,
        earlier_texts: Collection[str] = (),
    ):
        self.folder = Path(folder)
        self.ids = ids.in_fewest_bytes()
        self._warned = False
        plan = StorePlan(len(ids), width, ROWS_PER_SHARD, maker, _fingerprint_ids(self.ids), texts)
        self._write_plan(plan, choose_rows)
        before = read_plan(self.folder)
        self.plan = replace(plan, rows_per_shard=before.rows_per_shard)
        if before.texts in earlier_texts:
            self.plan = replace(self.plan, texts=before.texts)
        if before.ids == _fingerprint_ids(ids):  # earlier releases wrote them as wide as they were given
            self.plan = replace(self.plan, ids=before.ids)
        if before.maker.fingerprint != maker.fingerprint:
            models = f"the model was {_describe_model(before.maker)}, now {_describe_model(maker)}"
            raise BadInput(f"{self.folder}: made from other inputs ({models}): choose another --out or delete it")
        refuse_other_inputs(self.folder, _flatten(before), _flatten(self.plan))

    def _write_plan(self, plan: StorePlan, choose_rows: Callable[[int], int] | None) -> None:
        """Writes the plan of a new store; refuses a folder of anything else."""
        path = self.folder / PLAN
        had_files = has_files(self.folder)  # before the plan is looked for, as another rank may write it in between
        if path.exists():
            return
        if had_files:
            raise BadInput(f"{self.folder}: not a vector store and not empty: choose another folder")
        rows_per_shard = choose_rows(ROWS_PER_SHARD) if choose_rows is not None else ROWS_PER_SHARD
        plan = replace(plan, rows_per_shard=max(rows_per_shard, -(-plan.rows // MOST_SHARDS)))
        with suppress(FileExistsError):  # another rank was faster: its plan counts for all
            write_json(path, plan.to_json(), exclusive=True)

    @property
    def finished(self) -> bool:
        """Whether the store is complete."""
        return (self.folder / MANIFEST).exists()

    @property
    def rows_per_shard(self) -> int:
        return self.plan.rows_per_shard

    def update_name(self) -> None:
        """Writes the maker's name as it is now: the same model may have moved since it wrote the store."""
        path = self.folder / MANIFEST
        manifest = read_json(path, "store manifest")
        if Maker.from_json(manifest["maker"], path).name != self.plan.maker.name:
            write_json(path, {**manifest, "maker": self.plan.maker.to_json()})

    def missing_shards(self) -> list[tuple[int, np.ndarray]]:
        """Lists the shards that are not written yet, each with its rows; removes what killed processes left half-written."""
        sweep_temporaries(self.folder)
        shards = []
        for shard, size in enumerate(self.plan.shard_sizes):
            if not (self.folder / shard_name(shard)).exists():
                start = shard * self.rows_per_shard
                shards.append((shard, np.arange(start, start + size)))
        return shards

    def read_first(self, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Reads up to `most` rows that are written: their numbers [n] and vectors [n, D] float32; None where there is none yet."""
        for shard, size in enumerate(self.plan.shard_sizes):
            path = self.folder / shard_name(shard)
            if size and path.exists():
                start = shard * self.rows_per_shard
                return np.arange(start, start + min(size, most)), np.load(path, mmap_mode="r")[:most].astype(np.float32)
        return None

    def write_shard(self, shard: int, vectors: np.ndarray) -> None:
        """Writes a whole shard [n, D]; refuses numbers that are not finite in float16."""
        halves = vectors.astype(np.float16, order="C")  # rows are read as they lie in the file
        finite = np.isfinite(halves).all(axis=1)  # [n]
        if not finite.all():
            id_ = self.ids[shard * self.rows_per_shard + int(np.argmin(finite))]
            raise BadInput(f"{self.folder}: the vector of {id_!r} is not finite in float16: check the teacher or its precision")
        has_length = halves.any(axis=1)  # [n]
        if self.plan.width > 1 and not self._warned and not has_length.all():
            id_ = self.ids[shard * self.rows_per_shard + int(np.argmin(has_length))]
            log.warning(f"{self.folder}: the vector of {id_!r} is 0: every score with it is 0")
            self._warned = True
        self._save(shard_name(shard), halves)

    def finish(self) -> None:
        """Writes ids and manifest when every shard is there; until then it leaves the store unfinished."""
        if self.finished or self.missing_shards():
            return
        self._save(IDS, self.ids.raw)
        self._save(ORDER, self.ids.order)
        checksums = {name: file_fingerprint(self.folder / name) for name in self.plan.files}
        write_json(self.folder / MANIFEST, {**self.plan.to_json(), "checksums": checksums})

    def _save(self, name: str, array: np.ndarray) -> None:
        with write_atomically(self.folder / name) as temporary, open(temporary, "wb") as file:
            np.save(file, array, allow_pickle=False)


def write_store(files: VectorFiles, writer: StoreWriter) -> None:
    """Writes the vectors of all shards that are not written yet."""
    if writer.finished:
        writer.update_name()
        log.info(f"{writer.folder}: done before, {files.rows} vectors")
        return
    missing = {shard for shard, _ in writer.missing_shards()}
    with progress_bar(total=files.rows, desc=f"import {writer.folder.name}", unit=" vectors") as bar:
        for shard, vectors in enumerate(files.batches(writer.rows_per_shard)):
            if shard in missing:
                writer.write_shard(shard, vectors)
            bar.update(len(vectors))
    writer.finish()
    log.info(f"{writer.folder}: {files.rows} vectors, {files.width} wide")


def _fingerprint_ids(ids: Ids) -> str:
    return xxhash.xxh3_64_hexdigest(ids.raw.tobytes())


def _describe_model(maker: Maker) -> str:
    return f"{maker.name} of fingerprint {maker.fingerprint}"


def _flatten(plan: StorePlan) -> dict[str, Any]:
    """Returns the plan as a flat mapping with `maker.FIELD` for each field of its maker, so that a refusal names the field that differs."""
    values = plan.to_json()
    maker = values.pop("maker")
    maker.pop("name")  # the same model may have moved: its fingerprint tells
    return {**values, **{f"maker.{key}": value for key, value in maker.items()}}
