"""Rankings as TREC run files: `query Q0 document rank score name`, one line a retrieved document."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from distill.files.atomic import write_atomically
from distill.files.text_lines import read_lines
from distill.records import BadInput, Ranking


def write_trec(run: Ranking, document_ids: Callable[[int], str] | Sequence[str], path: Path) -> None:
    """Writes a ranking so that every tool reads its documents in the same order.

    trec_eval orders by score alone and breaks ties by document id; this package breaks them by the order of the corpus. So that both
    agree, each of several equal scores is written lower than the one before it, by the smallest step of fp32.

    Args:
        run: the ranking; rows of -1 are padding and have no line.
        document_ids: the id of each row of the corpus, or a function from row to id.
        path: file to write.

    Raises:
        BadInput: an id is empty or has white space in it.
    """
    _check_is_one_word(run.name)
    id_of = document_ids if callable(document_ids) else document_ids.__getitem__
    scores = make_strictly_decreasing(run.scores)
    with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for query_id, rows, query_scores in zip(run.query_ids, run.rows.tolist(), scores.tolist(), strict=True):
            _check_is_one_word(query_id)
            for rank, (row, score) in enumerate(zip(rows, query_scores, strict=True), start=1):
                if row >= 0:
                    document_id = id_of(row)
                    _check_is_one_word(document_id)
                    # 9 digits are enough to restore any fp32
                    file.write(f"{query_id} Q0 {document_id} {rank} {score:.9g} {run.name}\n")


def read_trec(path: Path) -> dict[str, list[tuple[str, float]]]:
    """Reads each query's (document id, score) pairs, best first; equal scores stay in the order of the file.

    The ranks that the file names are ignored, as trec_eval ignores them.

    Raises:
        BadInput: a line is not a run's, or a document comes twice for a query; it names the line.
    """
    scores: dict[str, dict[str, float]] = {}  # by query and document
    for place, query_id, document_id, score in _read_lines(Path(path)):
        documents = scores.setdefault(query_id, {})
        if document_id in documents:
            raise BadInput(f"{place}: document {document_id} comes twice for query {query_id}: keep one")
        documents[document_id] = score
    # sorted is stable: equal scores keep the file's order
    return {query_id: sorted(documents.items(), key=lambda pair: -pair[1]) for query_id, documents in scores.items()}


def make_strictly_decreasing(scores: np.ndarray) -> np.ndarray:
    """Scores [Q, k] as fp32, which is the precision that trec_eval reads, each below the one before it.

    >>> make_strictly_decreasing(np.array([[1.0, 1.0]])).tolist()
    [[1.0, 0.9999999403953552]]
    """
    decreasing = scores.astype(np.float32)  # a copy
    for column in range(1, decreasing.shape[1]):
        highest = np.nextafter(decreasing[:, column - 1], np.float32(-np.inf))
        decreasing[:, column] = np.minimum(decreasing[:, column], highest)
    return decreasing


def _read_lines(path: Path) -> Iterator[tuple[str, str, str, float]]:
    """(file and line for messages, query id, document id, score) of each line."""
    try:
        for number, line in read_lines(path):
            words = line.removeprefix("\ufeff").split()  # files that begin with a byte order mark may have been joined
            if words:
                yield _parse_line(words, f"{path}:{number}")
    except OSError as error:
        raise BadInput(f"{path}: not a readable run file ({error})") from None


def _parse_line(words: list[str], place: str) -> tuple[str, str, str, float]:
    if len(words) != 6:
        raise BadInput(f"{place}: {len(words)} columns, a run has 6: query Q0 document rank score name")
    query_id, _, document_id, _, written_score, _ = words
    try:
        score = float(written_score)
    except ValueError:
        score = math.nan
    if math.isnan(score):
        fix = "remove the header" if place.endswith(":1") else "mend the line"
        raise BadInput(f"{place}: score {written_score!r} is not a number: {fix}")
    return place, query_id, document_id, score


def _check_is_one_word(value: str) -> None:
    if len(value.split()) != 1 or value != value.strip():
        raise BadInput(f"id {value!r} is empty or has white space, which separates the columns of a run file: rename it")
