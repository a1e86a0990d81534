"""Relevance judgments: which documents answer a query, and how well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.records import BadInput
from distill.texts.ids import Ids


@dataclass(frozen=True)
class Qrels:
    """Graded judgments by query id and document id."""

    judgments: dict[str, dict[str, int]]
    name: str = "qrels"

    def __len__(self) -> int:
        return len(self.judgments)

    def only(self, query_ids: Iterable[str], name: str | None = None) -> Qrels:
        """The judgments of the given queries."""
        return Qrels({query: self.judgments[query] for query in query_ids if query in self.judgments}, name or self.name)

    def judged(self, query_ids: Sequence[str]) -> np.ndarray:
        """Positions of the queries that have judgments; only those enter a mean, as in trec_eval."""
        return np.flatnonzero([query in self.judgments for query in query_ids])

    def check(self, known_queries: Ids, name: str) -> None:
        """Refuses judgments of queries that `known_queries`, called `name`, lacks."""
        queries = list(self.judgments)
        unknown = np.flatnonzero(known_queries.rows(queries) < 0)
        if len(unknown):
            others = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
            raise BadInput(f"{self.name}: query {queries[unknown[0]]!r}{others} not in {name}: the two files must belong together")

    def best(self, query_ids: Sequence[str], corpus: Ids, relevant_from: int = 1) -> np.ndarray:
        """[Q] int64: the row of each query's document of the highest grade, the first in the file between equals.

        -1 where no judged document of `corpus` reaches `relevant_from`.
        """
        judged = [self.judgments.get(query, {}) for query in query_ids]
        rows = corpus.rows([document for grades in judged for document in grades])
        best, start = np.full(len(judged), -1, np.int64), 0
        for query, grades in enumerate(judged):
            found = [(grade, row) for grade, row in zip(grades.values(), rows[start:], strict=False) if row >= 0]
            start += len(grades)
            grade, row = max(found, key=lambda pair: pair[0], default=(0, -1))
            best[query] = row if grade >= relevant_from else -1
        return best

    def pairs(self, query_ids: Iterable[str], corpus: Ids, from_grade: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Positions of queries [E] and rows of the documents [E] of `corpus` that are judged `from_grade` or more for them."""
        judged = [
            (query, document)
            for query, id_ in enumerate(query_ids)
            for document, grade in self.judgments.get(id_, {}).items()
            if grade >= from_grade
        ]
        rows = corpus.rows([document for _, document in judged])
        queries = np.array([query for query, _ in judged], np.int64)
        return queries[rows >= 0], rows[rows >= 0]

    def corpus_sample(self, query_ids: Iterable[str], corpus: Ids, size: int) -> np.ndarray:
        """[N] rows of `corpus`, ascending: all, or where there are more than `size`, the judged ones and a random rest."""
        if len(corpus) <= size:
            return np.arange(len(corpus))
        judged = corpus.rows([document for query in query_ids for document in self.judgments.get(query, {})])
        rest = np.random.default_rng(0).permutation(len(corpus))
        chosen = np.concatenate([np.unique(judged[judged >= 0]), rest[~np.isin(rest, judged)]])
        return np.sort(chosen[: max(size, len(np.unique(judged[judged >= 0])))])

    def grade(self, query_ids: Sequence[str], corpus: Ids, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Grades of what was retrieved, and all grades there were to win.

        Args:
            query_ids: Q ids, one for each row of `rows`.
            corpus: ids of the documents that `rows` point at.
            rows: [Q, k] int64, retrieved rows of the corpus, -1 where there is none.

        Returns:
            ranked grades [Q, k] int64, 0 where unjudged or -1, and judged grades [Q, J] int64, padded with 0: every judged document
            of a query, also those missing from the corpus, which no system finds but recall and the ideal DCG count.
            Negative grades (spam, in TREC) are 0 in both.
        """
        judged = [self.judgments.get(query, {}) for query in query_ids]
        counts = np.array([len(grades) for grades in judged], np.int64)
        flat_grades = np.maximum(np.array([grade for grades in judged for grade in grades.values()], np.int64), 0)
        flat_queries = np.repeat(np.arange(len(judged)), counts)
        columns = np.arange(len(flat_grades)) - np.repeat(np.cumsum(counts) - counts, counts)
        judged_grades = np.zeros((len(judged), max(1, counts.max(initial=0))), np.int64)
        judged_grades[flat_queries, columns] = flat_grades
        flat_rows = corpus.rows([document for grades in judged for document in grades])
        return _looked_up(rows, flat_queries, flat_rows, flat_grades, len(corpus)), judged_grades


def _looked_up(rows: np.ndarray, queries: np.ndarray, documents: np.ndarray, grades: np.ndarray, corpus_size: int) -> np.ndarray:
    """[Q, k]: for each retrieved row the grade of its (query, document) pair, found by one sorted search over all pairs."""
    here = documents >= 0
    pairs = queries[here] * corpus_size + documents[here]
    order = np.argsort(pairs)
    wanted = np.arange(len(rows))[:, None] * corpus_size + rows
    places = np.searchsorted(pairs, wanted, sorter=order)
    # one impossible pair at the end catches whatever sorts after all judged ones
    found_pairs, found_grades = np.append(pairs[order], -1)[places], np.append(grades[here][order], 0)[places]
    return np.where((rows >= 0) & (found_pairs == wanted), found_grades, 0)


class RelevantRows:
    """The documents that are judged relevant to each of `count` queries, out of pairs of their rows [E] and [E]."""

    def __init__(self, queries: np.ndarray, documents: np.ndarray, count: int):
        self.documents = np.append(documents[np.argsort(queries, kind="stable")], -1)
        self.ends = np.cumsum(np.bincount(queries, minlength=count))
        self.most = int(np.diff(self.ends, prepend=0).max(initial=0))

    def of(self, queries: np.ndarray) -> np.ndarray:
        """[B, J] rows of documents for rows of queries [B], -1 beyond; J is the same for every batch, as ranks need it."""
        places = np.append(0, self.ends)[queries][:, None] + np.arange(self.most)
        return np.where(places < self.ends[queries][:, None], self.documents[np.minimum(places, len(self.documents) - 1)], -1)


def merge_qrels(parts: Sequence[Qrels], name: str | None = None) -> Qrels:
    """The judgments of several files."""
    judgments: dict[str, dict[str, int]] = {}
    for part in parts:
        for query, grades in part.judgments.items():
            judgments[query] = {**judgments.get(query, {}), **grades}
    return Qrels(judgments, name or "+".join(part.name for part in parts))


def read_qrels(path: str | Path) -> Qrels:
    """Reads TREC lines (`query 0 document grade`), three columns (`query document grade`) or BEIR (three columns and a header)."""
    judgments: dict[str, dict[str, int]] = {}
    columns = 0
    for number, fields in _lines(Path(path)):
        if not columns and _is_header(fields):
            continue
        columns = columns or len(fields)
        if len(fields) != columns or columns not in (3, 4):
            wanted = columns if columns in (3, 4) else "3 or 4"
            raise BadInput(f"{path}: line {number} has {len(fields)} columns, not {wanted}: expected query, 0 (optional), document, grade")
        query, document, grade = fields[0], fields[-2], _whole(fields[-1], path, number)
        if judgments.setdefault(query, {}).setdefault(document, grade) != grade:
            raise BadInput(f"{path}: line {number} judges document {document!r} of query {query!r} again, differently: keep one of them")
    if not judgments:
        raise BadInput(f"{path}: no judgment in it: expected query, 0, document, grade on every line")
    return Qrels(judgments, str(path))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """1-based numbers and columns of the lines that are not blank."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _columns(line)


def _columns(line: str) -> list[str]:
    """TREC lines are split at any whitespace, others at tabs, between which an id may have spaces."""
    words, by_tab = line.split(), line.strip("\r\n").split("\t")
    is_trec = len(words) == 4 and words[1] in ("0", "Q0")
    return words if is_trec or len(by_tab) not in (3, 4) else [field.strip() for field in by_tab]


def _is_header(fields: list[str]) -> bool:
    return [field.lower() for field in fields] == ["query-id", "corpus-id", "score"]


def _whole(grade: str, path: str | Path, number: int) -> int:
    try:
        return int(grade)
    except ValueError:
        raise BadInput(f"{path}: line {number} has the grade {grade[:40]!r}: expected a whole number") from None
