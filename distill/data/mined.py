"""Mined hard negatives on disk: a line of JSON a query, made a shard at a time.

negatives/
  plan.json         what is being made and from what; written first
  00000.jsonl ...   shards, until the whole is there
  negatives.jsonl   {"query": ..., "positive": ..., "positive_score": ..., "negatives": [...], "scores": [...]} on every line
  manifest.json     the plan, counts and the file's checksum; written last: its existence means that the file is complete
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.artefacts import file_fingerprint, read_json, write_json, written_atomically
from distill.records import BadInput


@dataclass(frozen=True)
class Mined:
    """A query with its positive and its hard negatives, by id; the hardest first, each with the teacher's score."""

    query: str
    positive: str
    positive_score: float
    negatives: list[str]
    scores: list[float]


class NegativesWriter:
    """Writes a folder of hard negatives; started again after a kill it goes on with the shards that are missing."""

    def __init__(self, folder: Path, plan: dict[str, Any], shards: int):
        self.folder, self.plan, self.shards = Path(folder), plan, shards
        path = self.folder / "plan.json"
        if path.exists():
            before = read_json(path, "plan of hard negatives")
            for key, value in plan.items():
                if before.get(key) != value:
                    raise BadInput(
                        f"{folder}: made from other inputs ({key} was {before.get(key)}, now {value}): choose another --out or delete it"
                    )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise BadInput(f"{folder}: not a folder of hard negatives and not empty: choose another --out")
        else:
            write_json(path, plan)

    @property
    def file(self) -> Path:
        return self.folder / "negatives.jsonl"

    @property
    def finished(self) -> bool:
        return (self.folder / "manifest.json").exists()

    def missing(self) -> list[int]:
        return [] if self.finished else [shard for shard in range(self.shards) if not self._shard(shard).exists()]

    def write(self, shard: int, mined: Iterable[Mined]) -> None:
        with written_atomically(self._shard(shard)) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in mined)

    def finish(self, more: dict[str, Any]) -> int:
        """Joins the shards; `more` goes into the manifest beside plan, counts and checksum. Returns how many negatives there are."""
        with written_atomically(self.file) as temporary, open(temporary, "wb") as whole:
            for shard in range(self.shards):
                with open(self._shard(shard), "rb") as part:
                    shutil.copyfileobj(part, whole)
        counts = [len(mined.negatives) for mined in _lines(self.file)]
        found = {"lines": len(counts), "hard_negatives": sum(counts), "checksum": file_fingerprint(self.file)}
        write_json(self.folder / "manifest.json", {**self.plan, **found, **more})
        for shard in range(self.shards):
            self._shard(shard).unlink()
        return sum(counts)

    def _shard(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.jsonl"


def read_negatives(folder: str | Path) -> Iterator[Mined]:
    """The mined queries of a finished folder, in file order; refuses a file that changed since it was written."""
    folder = Path(folder)
    checksum = read_json(folder / "manifest.json", "manifest of hard negatives").get("checksum")
    if not (folder / "negatives.jsonl").exists() or file_fingerprint(folder / "negatives.jsonl") != checksum:
        raise BadInput(f"{folder / 'negatives.jsonl'}: missing or changed since it was written: delete the folder and run distill mine")
    return _lines(folder / "negatives.jsonl")


def _lines(path: Path) -> Iterator[Mined]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                yield Mined(**json.loads(line))
            except (ValueError, TypeError, RecursionError):
                raise BadInput(f"{path}: line {number} holds no hard negatives: delete the folder and run distill mine") from None
