"""Mined hard negatives on disk: `negatives.jsonl`, one line of JSON for each query, in a folder that `distill.files.line_shards` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distill.files.atomic import read_json, refuse_unreadable
from distill.files.fingerprints import file_fingerprint
from distill.files.text_lines import read_lines
from distill.records import BadInput
from distill.texts.ids import BYTE_ORDER_MARK

EXPECTED = '{"query": id, "positive": id, "negatives": [ids]}'


@dataclass(frozen=True)
class MinedQuery:
    """The ids of a query, its positive and its hard negatives; the hardest negative comes first.

    The scores are the teacher's. A file by another program may lack them.
    """

    query: str
    positive: str
    positive_score: float | None
    negatives: list[str]
    scores: list[float]  # one for each negative, or empty


@dataclass(frozen=True)
class HardNegatives:
    """A finished folder of hard negatives, written by `distill mine`; iterate over it to read its queries.

    Attributes:
        folder: path of the folder.
        queries: number of queries with a positive.
        negatives: number of hard negatives over all queries.
        queries_without_a_positive: number of queries without a positive in the corpus; the file has no line for them.
    """

    folder: Path
    queries: int
    negatives: int
    queries_without_a_positive: int

    @classmethod
    def open(cls, folder: str | Path) -> HardNegatives:
        """Reads the manifest of a folder."""
        manifest = _read_manifest(Path(folder))
        with refuse_unreadable("a folder of hard negatives", folder):
            return cls(Path(folder), manifest["lines"], manifest["hard_negatives"], manifest["queries_without_a_positive"])

    def __iter__(self) -> Iterator[MinedQuery]:
        return read_negatives(self.folder)


def read_negatives(folder: str | Path) -> Iterator[MinedQuery]:
    """Reads the mined queries of a finished folder, in file order; refuses a file that changed since it was written."""
    path = Path(folder) / "negatives.jsonl"
    checksum = _read_manifest(Path(folder)).get("checksum")
    if not path.exists() or file_fingerprint(path) != checksum:
        raise BadInput(f"{path}: missing or changed since it was written: delete the folder and run distill mine")
    return read_mined_lines(path)


def read_mined_lines(path: str | Path) -> Iterator[MinedQuery]:
    """Reads the mined queries of any file, in its order; a bad line is refused with its number."""
    for number, line in read_lines(Path(path), replace=True):
        try:
            query = parse_mined_line(line.removeprefix(BYTE_ORDER_MARK))  # files that begin with the mark may have been joined
        except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError):
            raise BadInput(f"{path}: line {number} is not {EXPECTED}: mend it, or run distill mine into another folder") from None
        yield query


def parse_mined_line(line: str) -> MinedQuery:
    """Reads a mined query from a line of JSON. A bad line raises Python's own errors, such as ValueError or KeyError.

    >>> parse_mined_line('{"query": "q1", "positive": 7, "negatives": [8, 9]}')
    MinedQuery(query='q1', positive='7', positive_score=None, negatives=['8', '9'], scores=[])
    """
    record = json.loads(line)
    negatives, positive_score, scores = record["negatives"], record.get("positive_score"), record.get("scores", [])
    if not isinstance(negatives, list) or len(scores) not in (0, len(negatives)):
        raise ValueError("negatives are a list, and each has a score or none has")
    return MinedQuery(
        query=str(record["query"]),
        positive=str(record["positive"]),
        positive_score=None if positive_score is None else float(positive_score),
        negatives=[str(id_) for id_ in negatives],
        scores=[float(score) for score in scores],
    )


def _read_manifest(folder: Path) -> dict:
    with refuse_unreadable("a folder of hard negatives", folder):
        manifest = read_json(folder / "manifest.json", "manifest of hard negatives")
        manifest.get("checksum")  # only an object has it
        return manifest
