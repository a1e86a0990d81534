"""Mined hard negatives on disk: `negatives.jsonl`, a line of JSON a query, in a folder that `lines.py` describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.files.atomic import read_json, refuse_unreadable
from distill.files.fingerprints import file_fingerprint
from distill.records import BadInput


@dataclass(frozen=True)
class MinedQuery:
    """A query with its positive and its hard negatives, by id; the hardest first, each with the teacher's score."""

    query: str
    positive: str
    positive_score: float
    negatives: list[str]
    scores: list[float]


def read_negatives(folder: str | Path) -> Iterator[MinedQuery]:
    """The mined queries of a finished folder, in file order; refuses a file that changed since it was written."""
    folder = Path(folder)
    with refuse_unreadable("a folder of hard negatives", folder):
        checksum = read_json(folder / "manifest.json", "manifest of hard negatives").get("checksum")
    if not (folder / "negatives.jsonl").exists() or file_fingerprint(folder / "negatives.jsonl") != checksum:
        raise BadInput(f"{folder / 'negatives.jsonl'}: missing or changed since it was written: delete the folder and run distill mine")
    return read_mined_lines(folder / "negatives.jsonl")


def read_mined_lines(path: Path) -> Iterator[MinedQuery]:
    """Of a file, in its order; it is not compared with a checksum."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                yield MinedQuery(**json.loads(line))
            except (ValueError, TypeError, RecursionError):
                raise BadInput(f"{path}: line {number} holds no hard negatives: delete the folder and run distill mine") from None
