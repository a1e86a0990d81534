"""Mined hard negatives on disk: `negatives.jsonl`, a line of JSON a query, in a folder that `lines.py` describes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.artefacts import expecting, file_fingerprint, read_json
from distill.data.lines import LinesWriter
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
        self.lines = LinesWriter(folder, "negatives", plan, shards, "hard negatives")
        self.file, self.missing, self.begin = self.lines.file, self.lines.missing, self.lines.begin

    @property
    def finished(self) -> bool:
        return self.lines.finished

    def write(self, shard: int, mined: Iterable[Mined]) -> None:
        self.lines.write(shard, (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in mined))

    def finish(self, more: dict[str, Any]) -> int:
        """Joins the shards; `more` goes into the manifest beside plan, counts and checksum. Returns how many negatives there are."""
        self.lines.join(line for _, shard in self.lines.read() for line in shard)
        counts = [len(mined.negatives) for mined in _lines(self.file)]
        self.lines.finish({"lines": len(counts), "hard_negatives": sum(counts), **more})
        return sum(counts)


def read_negatives(folder: str | Path) -> Iterator[Mined]:
    """The mined queries of a finished folder, in file order; refuses a file that changed since it was written."""
    folder = Path(folder)
    with expecting("a folder of hard negatives", folder):
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
