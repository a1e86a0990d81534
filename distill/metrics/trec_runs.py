"""Rankings as TREC run files: `query Q0 document rank score name`, one line a retrieved document."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from distill.files.atomic import write_atomically
from distill.records import BadInput, Ranking


def write_trec(run: Ranking, document_ids: Callable[[int], str] | Sequence[str], path: Path) -> None:
    """Writes `run`; `document_ids` names the document of a row. Equal scores are set apart by the least step fp32 has.

    trec_eval orders by score alone and breaks ties by document id; ours is score, then corpus order. Strictly decreasing scores leave
    every tool the order of the run.
    """
    name = document_ids if callable(document_ids) else document_ids.__getitem__
    scores = _strictly_decreasing(run.scores)
    with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for query_id, rows, query_scores in zip(run.query_ids, run.rows.tolist(), scores.tolist(), strict=True):
            for rank, (row, score) in enumerate(zip(rows, query_scores, strict=True), start=1):
                if row >= 0:
                    # 9 digits give every fp32 back
                    file.write(f"{_word(query_id)} Q0 {_word(name(row))} {rank} {score:.9g} {_word(run.name)}\n")


def read_trec(path: Path) -> dict[str, list[tuple[str, float]]]:
    """For each query its (document id, score) pairs, best first; equal scores in the order of the file. Ranks written in it are ignored.

    Raises BadInput, naming the line, where a line is not a run's or a document comes twice.
    """
    found: dict[str, dict[str, float]] = {}
    for place, query_id, document_id, score in _lines(Path(path)):
        documents = found.setdefault(query_id, {})
        if document_id in documents:
            raise BadInput(f"{place}: document {document_id} comes twice for query {query_id}: keep one")
        documents[document_id] = score
    # sorted is stable: equal scores keep the file's order
    return {query_id: sorted(documents.items(), key=lambda pair: -pair[1]) for query_id, documents in found.items()}


def _lines(path: Path) -> Iterator[tuple[str, str, str, float]]:
    """(place for messages, query id, document id, score) of each line."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parsed(line.split(), f"{path}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: not a readable run file ({error})") from None


def _parsed(words: list[str], place: str) -> tuple[str, str, str, float]:
    if len(words) != 6:
        raise BadInput(f"{place}: {len(words)} columns, a run has 6: query Q0 document rank score name")
    try:
        score = float(words[4])
    except ValueError:
        score = math.nan
    if math.isnan(score):
        raise BadInput(f"{place}: score {words[4]!r} is not a number")
    return place, words[0], words[2], score


def _strictly_decreasing(scores: np.ndarray) -> np.ndarray:
    """Scores [Q, k] as fp32, which is what trec_eval keeps of them, each below the one before it."""
    apart = scores.astype(np.float32)  # a copy
    for column in range(1, apart.shape[1]):
        below = np.nextafter(apart[:, column - 1], np.float32(-np.inf))
        apart[:, column] = np.minimum(apart[:, column], below)
    return apart


def _word(value: str) -> str:
    if len(value.split()) != 1 or value != value.strip():
        raise BadInput(f"id {value!r} is empty or has white space, which separates the columns of a run file: rename it")
    return value
