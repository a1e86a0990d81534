"""`StorePlan`: describes a store, as its plan.json and its manifest.json hold it, and names its files.

documents/
  plan.json        the plan; written first
  ids.npy          [N] ids as UTF-8 bytes, in row order
  order.npy        [N] rows sorted by id
  00000.npy ...    [rows_per_shard, D] float16, each written under a temporary name
  manifest.json    the plan and every file's checksum; written last: its existence means that the store is complete
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.encoders.maker import Maker
from distill.files.atomic import read_json
from distill.records import BadInput

VERSION = 1
PLAN, MANIFEST = "plan.json", "manifest.json"
IDS, ORDER = "ids.npy", "order.npy"
# largest numbers that a plan may hold: memory is allocated for rows before they are read
MOST_ROWS, WIDEST = 1 << 40, 1 << 20
HALF_MAX = float(np.finfo(np.float16).max)  # stores hold float16
REMEDY = "delete the store and run distill encode or import again"


@dataclass(frozen=True)
class StorePlan:
    """What a store is made of.

    Attributes:
        rows: N.
        width: D.
        rows_per_shard: rows of each shard but the last, which has the rest.
        maker: the model that writes the vectors.
        ids: fingerprint of the ids.
        texts: fingerprint of the texts; None where only their ids are known.
        version: of this format.
    """

    rows: int
    width: int
    rows_per_shard: int
    maker: Maker
    ids: str
    texts: str | None
    version: int = VERSION

    @classmethod
    def from_json(cls, value: dict[str, Any], path: Path) -> StorePlan | None:
        """Reads a plan or a manifest; None where its values make no sense. KeyError names a value that is missing."""
        maker = Maker.from_json(value["maker"], path)
        numbers = value["rows"], value["width"], value["rows_per_shard"]
        plan = cls(*numbers, maker, value["ids"], value["texts"], value.get("version", VERSION))
        return plan if plan._is_valid() else None

    def _is_valid(self) -> bool:
        limits = ((self.version, 1, 99), (self.rows, 0, MOST_ROWS), (self.width, 1, WIDEST), (self.rows_per_shard, 1, MOST_ROWS))
        # not isinstance, as a bool is an int to Python
        numbers = all(type(number) is int and least <= number <= most for number, least, most in limits)
        return numbers and isinstance(self.ids, str) and (self.texts is None or isinstance(self.texts, str))

    def to_json(self) -> dict[str, Any]:
        return {"version": self.version, **vars(self), "maker": self.maker.to_json()}

    @property
    def shard_count(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    @property
    def shard_sizes(self) -> list[int]:
        """Rows of each shard.

        >>> StorePlan(rows=10, width=2, rows_per_shard=4, maker=Maker("m", "1f"), ids="", texts=None).shard_sizes
        [4, 4, 2]
        """
        return [min(self.rows_per_shard, self.rows - start) for start in range(0, self.rows, self.rows_per_shard)]

    @property
    def files(self) -> list[str]:
        """Names of the files that a complete store has beside plan and manifest."""
        return [IDS, ORDER, *(shard_name(shard) for shard in range(self.shard_count))]


def shard_name(shard: int) -> str:
    """Returns the name of a shard's file.

    >>> shard_name(12)
    '00012.npy'
    """
    return f"{shard:05d}.npy"


def read_plan(folder: Path) -> StorePlan:
    """Reads the plan of a store, perhaps an unfinished one."""
    path = folder / PLAN
    value = read_json(path, "store plan")
    try:
        plan = StorePlan.from_json(value, path)
    except (KeyError, TypeError):
        plan = None
    if plan is None:
        raise BadInput(f"{path}: not the plan of a store: {REMEDY}")
    return plan


def read_manifest(folder: Path) -> tuple[StorePlan, dict[str, str]]:
    """Reads the plan of a complete store and the checksum of each of its files."""
    path = folder / MANIFEST
    value = read_json(path, "store manifest")
    try:
        checksums = value["checksums"]
        plan = StorePlan.from_json(value, path)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path}: not a store manifest: {error} is missing") from None
    # compares counts, not names: a damaged manifest may claim billions of shards
    if plan is None or not isinstance(checksums, dict) or len(checksums) != 2 + plan.shard_count:
        raise BadInput(f"{path}: not a store manifest: rows, width, ids, texts or checksums make no sense: {REMEDY}")
    return plan, checksums


def rows_written(folder: Path) -> int:
    """Counts the rows of a store, perhaps an unfinished one, that are on disk; 0 where there is no store."""
    if not (folder / PLAN).exists():
        return 0
    sizes = read_plan(folder).shard_sizes
    return sum(size for shard, size in enumerate(sizes) if (folder / shard_name(shard)).exists())
