"""Relevance judgments: which documents answer a query, and how well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.files.progress import log
from distill.files.text_lines import read_lines
from distill.records import BadInput
from distill.texts.ids import BYTE_ORDER_MARK, Ids

LARGEST_GRADE = 1 << 31
GRADE_NAMES = ("score", "grade", "relevance", "rel", "label")  # names that the last column of a header may have


@dataclass(frozen=True)
class Qrels:
    """Graded judgments by query id and document id.

    >>> qrels = Qrels({"q1": {"d1": 2, "d2": 0}})
    >>> qrels.judged_positions(["q0", "q1"]).tolist(), qrels.subset(["q0"]).judgments
    ([1], {})
    """

    judgments: dict[str, dict[str, int]]
    name: str = "qrels"

    def __len__(self) -> int:
        """The number of queries that have judgments."""
        return len(self.judgments)

    def subset(self, query_ids: Iterable[str], name: str | None = None) -> Qrels:
        """The judgments of the given queries."""
        return Qrels({query: self.judgments[query] for query in query_ids if query in self.judgments}, name or self.name)

    def judged_positions(self, query_ids: Sequence[str]) -> np.ndarray:
        """Positions in `query_ids` of the queries that have judgments; only those enter a mean, as in trec_eval."""
        return np.flatnonzero([query in self.judgments for query in query_ids])

    def refuse_unknown_queries(self, known_queries: Ids, name: str) -> None:
        """Raises BadInput where a judged query is not among `known_queries`, which the message calls `name`."""
        queries = list(self.judgments)
        unknown = np.flatnonzero(known_queries.rows(queries) < 0)
        if len(unknown):
            others = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
            fix = _describe_other_ids("query", known_queries)
            raise BadInput(f"{self.name}: query {queries[unknown[0]]!r}{others} not in {name}: the two files must belong together{fix}")

    def keep_known(self, known_queries: Ids, name: str) -> Qrels:
        """The judgments of queries that are among `known_queries`, which the message calls `name`; refuses judgments of none of them."""
        queries = list(self.judgments)
        known = np.flatnonzero(known_queries.rows(queries) >= 0)
        if not len(known):
            fix = f"the two files must belong together{_describe_other_ids('query', known_queries)}"
            raise BadInput(f"{self.name}: none of its queries, {queries[0]!r} for one, is in {name}: {fix}")
        return self.subset([queries[row] for row in known])

    def check_documents(self, corpus: Ids) -> None:
        """Refuses judgments that name no document of `corpus`, and logs how many of the judged documents it lacks.

        >>> Qrels({"q1": {"7": 1}}, "qrels.tsv").check_documents(Ids.of(["doc7"]))
        Traceback (most recent call last):
        ...
        distill.records.BadInput: qrels.tsv: none of its documents is known: '7' is judged, 'doc7' is a document: give the same ids in both
        """
        judged = sorted({document for grades in self.judgments.values() for document in grades})
        unknown = np.flatnonzero(corpus.rows(judged) < 0)
        if not len(unknown):
            return
        if len(unknown) == len(judged):
            other = _describe_other_ids("document", corpus).removeprefix(", where ") or "there are no documents"
            raise BadInput(f"{self.name}: none of its documents is known: {judged[0]!r} is judged, {other}: give the same ids in both")
        example = f"{judged[unknown[0]]!r} for one"
        log.info(f"{self.name}: {len(unknown)} of {len(judged)} judged documents are unknown, {example}: no system can find them")

    def best_documents(self, query_ids: Sequence[str], corpus: Ids, relevant_from: int = 1) -> np.ndarray:
        """[Q] int64: for each query the row in `corpus` of its document of the highest grade, the first in the file between equals.

        -1 where no judged document in the corpus has a grade of `relevant_from` or more.
        """
        grades_of = [self.judgments.get(query, {}) for query in query_ids]
        rows = corpus.rows([document for grades in grades_of for document in grades])
        best, start = np.full(len(grades_of), -1, np.int64), 0
        for query, grades in enumerate(grades_of):
            end = start + len(grades)
            in_corpus = [(grade, row) for grade, row in zip(grades.values(), rows[start:end], strict=True) if row >= 0]
            grade, row = max(in_corpus, key=lambda pair: pair[0], default=(0, -1))
            best[query] = row if grade >= relevant_from else -1
            start = end
        return best

    def relevant_pairs(self, query_ids: Iterable[str], corpus: Ids, from_grade: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of a query and a document in `corpus` that have a grade of `from_grade` or more.

        Returns:
            positions in `query_ids` [E] and rows of `corpus` [E].
        """
        pairs = [
            (query, document)
            for query, id_ in enumerate(query_ids)
            for document, grade in self.judgments.get(id_, {}).items()
            if grade >= from_grade
        ]
        rows = corpus.rows([document for _, document in pairs])
        queries = np.array([query for query, _ in pairs], np.int64)
        return queries[rows >= 0], rows[rows >= 0]

    def sample_corpus(self, query_ids: Iterable[str], corpus: Ids, size: int) -> np.ndarray:
        """[N] rows of `corpus`, ascending: all of them, or of a larger corpus the judged documents and random others up to `size`."""
        if len(corpus) <= size:
            return np.arange(len(corpus))
        judged = corpus.rows([document for query in query_ids for document in self.judgments.get(query, {})])
        judged = np.unique(judged[judged >= 0])
        shuffled = np.random.default_rng(0).permutation(len(corpus))
        rows = np.concatenate([judged, shuffled[~np.isin(shuffled, judged)]])
        return np.sort(rows[: max(size, len(judged))])

    def grade(self, query_ids: Sequence[str], corpus: Ids, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Grades of retrieved documents, and the grades of all judged ones.

        Args:
            query_ids: Q ids, one for each row of `rows`.
            corpus: ids of the documents that `rows` point at.
            rows: [Q, k] int64, retrieved rows of the corpus; rows of -1 are padding.

        Returns:
            ranked grades [Q, k] int64, 0 where unjudged or padding, and judged grades [Q, J] int64, padded with 0: every judged
            document of a query, also those missing from the corpus, which no system can retrieve, but which recall and the ideal DCG count.
            Negative grades (spam, in TREC) are 0 in both.
        """
        grades_of = [self.judgments.get(query, {}) for query in query_ids]
        counts = np.array([len(grades) for grades in grades_of], np.int64)
        flat_grades = np.maximum(np.array([grade for grades in grades_of for grade in grades.values()], np.int64), 0)
        flat_queries = np.repeat(np.arange(len(grades_of)), counts)
        columns = np.arange(len(flat_grades)) - np.repeat(np.cumsum(counts) - counts, counts)
        judged_grades = np.zeros((len(grades_of), max(1, counts.max(initial=0))), np.int64)
        judged_grades[flat_queries, columns] = flat_grades
        flat_rows = corpus.rows([document for grades in grades_of for document in grades])
        return _look_up_grades(rows, flat_queries, flat_rows, flat_grades, len(corpus)), judged_grades


def _look_up_grades(rows: np.ndarray, queries: np.ndarray, documents: np.ndarray, grades: np.ndarray, corpus_size: int) -> np.ndarray:
    """[Q, k]: the grade of each retrieved row, found by one sorted search over all judged (query, document) pairs."""
    in_corpus = documents >= 0
    pairs = queries[in_corpus] * corpus_size + documents[in_corpus]
    order = np.argsort(pairs)
    retrieved = np.arange(len(rows))[:, None] * corpus_size + rows  # [Q, k]
    places = np.searchsorted(pairs, retrieved, sorter=order)
    # A pair that sorts after all judged pairs has the place behind the last one, where a pair is appended that equals none.
    nearest_pairs = np.append(pairs[order], -1)[places]
    nearest_grades = np.append(grades[in_corpus][order], 0)[places]
    return np.where((rows >= 0) & (nearest_pairs == retrieved), nearest_grades, 0)


class RelevantRows:
    """The documents that are judged relevant to each of `count` queries.

    Args:
        queries: [E] int64, rows of queries.
        documents: [E] int64, rows of the documents judged relevant to them.
        count: number of queries.

    >>> RelevantRows(np.array([0, 2, 0]), np.array([7, 8, 9]), 3).rows_for(np.array([0, 1, 2])).tolist()
    [[7, 9], [-1, -1], [8, -1]]
    """

    def __init__(self, queries: np.ndarray, documents: np.ndarray, count: int):
        self.documents = np.append(documents[np.argsort(queries, kind="stable")], -1)  # [E + 1] by query, and one to read as padding
        self.ends = np.cumsum(np.bincount(queries, minlength=count))  # [count] where the documents of each query end
        self.most = int(np.diff(self.ends, prepend=0).max(initial=0))  # J, documents of the query that has the most

    def rows_for(self, queries: np.ndarray) -> np.ndarray:
        """[B, J] rows of documents for rows of queries [B], padded with -1; J is the same for every batch, as ranks need it."""
        places = np.append(0, self.ends)[queries][:, None] + np.arange(self.most)
        is_real = places < self.ends[queries][:, None]
        return np.where(is_real, self.documents[np.minimum(places, len(self.documents) - 1)], -1)


def _describe_other_ids(what: str, ids: Ids) -> str:
    return f", where {ids[0]!r} is a {what}" if len(ids) else ""


def merge_qrels(parts: Sequence[Qrels], name: str | None = None) -> Qrels:
    """The judgments of several files; where two judge one pair, the later one counts."""
    judgments: dict[str, dict[str, int]] = {}
    for part in parts:
        for query, grades in part.judgments.items():
            judgments[query] = {**judgments.get(query, {}), **grades}
    return Qrels(judgments, name or "+".join(part.name for part in parts))


def read_qrels(path: str | Path) -> Qrels:
    """Reads a file of judgments.

    Args:
        path: TREC lines (`query 0 document grade`) or three columns (`query document grade`), with or without a header as in BEIR.

    Raises:
        BadInput: the file is missing or empty, or a line is no judgment or contradicts another.
    """
    judgments: dict[str, dict[str, int]] = {}
    columns = 0
    for number, fields in _read_columns(Path(path)):
        if not columns and _is_header(fields):
            continue
        columns = columns or len(fields)
        if len(fields) != columns or columns not in (3, 4):
            wanted = columns if columns in (3, 4) else "3 or 4"
            raise BadInput(f"{path}: line {number} has {len(fields)} columns, not {wanted}: expected query, 0 (optional), document, grade")
        query, document, grade = fields[0], fields[-2], _parse_grade(fields[-1], path, number)
        if judgments.setdefault(query, {}).setdefault(document, grade) != grade:
            raise BadInput(f"{path}: line {number} judges document {document!r} of query {query!r} again, differently: keep one of them")
    if not judgments:
        raise BadInput(f"{path}: no judgment in it: expected query, 0, document, grade on every line")
    return Qrels(judgments, str(path))


def _read_columns(path: Path) -> Iterator[tuple[int, list[str]]]:
    """1-based numbers and columns of the lines that are not blank."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    for number, line in read_lines(path, replace=True):
        line = line.removeprefix(BYTE_ORDER_MARK)  # files that begin with the mark may have been joined
        if line.strip():
            yield number, _split_columns(line)


def _split_columns(line: str) -> list[str]:
    """Splits TREC lines at any whitespace, and others at tabs, so that their ids may have spaces."""
    words, by_tab = line.split(), line.strip("\r\n").split("\t")
    is_trec = len(words) == 4 and words[1] in ("0", "Q0")
    if is_trec or len(by_tab) not in (3, 4):
        return words
    return [field.strip() for field in by_tab]


def _is_header(fields: list[str]) -> bool:
    """Whether a first line names its columns, as in BEIR (`query-id`, `corpus-id`, `score`) and in files of one's own."""
    return fields[-1].lower() in GRADE_NAMES


def _parse_grade(grade: str, path: str | Path, number: int) -> int:
    try:
        value = int(grade)
        if abs(value) < LARGEST_GRADE:
            return value
        raise BadInput(f"{path}: line {number} has the grade {grade[:40]}: too large")
    except ValueError:
        header = ", or a header with score as its last word" if number == 1 else ""
        raise BadInput(f"{path}: line {number} has the grade {grade[:40]!r}: expected a whole number{header}") from None
