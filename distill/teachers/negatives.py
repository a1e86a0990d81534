"""Where a query's hard negatives come from: chance, a teacher's ranking, or a file of mined ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.fingerprints import file_fingerprint
from distill.records import BadInput
from distill.teachers.first_stage import search_first_stage
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.store import TeacherStore


@dataclass(frozen=True)
class JudgedQueries:
    """The queries to train on and what is judged of them."""

    source: TextSource
    split: str
    queries: Texts
    qrels: Qrels
    corpus: Ids

    def pairs(self, from_grade: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of queries [E] and of their documents [E] judged `from_grade` or more; documents outside the corpus are left out."""
        return self.qrels.relevant_pairs(self.queries.ids, self.corpus, from_grade)


@dataclass(frozen=True)
class TrainingPairs:
    """What is trained on: E queries, each with a positive and the documents its negatives are drawn from."""

    queries: np.ndarray  # [E] int64, rows of the training queries
    positives: np.ndarray  # [E] int64, rows of the corpus
    pools: np.ndarray  # [E, P] int64, rows of the corpus, -1 where there are fewer

    def __len__(self) -> int:
        return len(self.queries)


class Negatives:
    """Where hard negatives come from; one subclass for each way. Random documents stand in where they are too few."""

    def examples(self, labelled: JudgedQueries) -> TrainingPairs:
        """Every judged pair with the pool its negatives are drawn from; known positives may be in it."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Of what the pools are made from, beside queries and corpus."""
        return ""


class RandomNegatives(Negatives):
    """Documents drawn from the corpus at random, others every epoch."""

    def examples(self, labelled: JudgedQueries) -> TrainingPairs:
        queries, positives = labelled.pairs(labelled.source.relevant_from)
        return TrainingPairs(queries, positives, np.empty((len(queries), 0), np.int64))


class TopNegatives(Negatives):
    """The documents that a teacher ranks highest for the query.

    Args:
        store: folder of that teacher's vectors, as `distill encode` leaves it.
        skip: so many of the highest are left out, which are often unjudged answers.
        depth: ranks from which negatives are drawn, counted from the first.
    """

    def __init__(self, store: str, skip: int = 0, depth: int = 100):
        if not 0 <= skip < depth:
            raise BadInput(f"data.negatives: skip {skip} must be at least 0 and below depth {depth}")
        self.store, self.skip, self.depth = store, skip, depth

    def examples(self, labelled: JudgedQueries) -> TrainingPairs:
        queries, positives = labelled.pairs(labelled.source.relevant_from)
        used, place = np.unique(queries, return_inverse=True)
        top = search_first_stage(labelled.source, self.store, labelled.split, labelled.queries.subset(used), self.depth)
        return TrainingPairs(queries, positives, top[place, self.skip :])

    def fingerprint(self) -> str:
        return TeacherStore(self.store).maker.fingerprint


class MinedNegatives(Negatives):
    """Negatives from a file: `{"query": id, "positive": id, "negatives": [ids]}` on every line, which is also what is trained on.

    Args:
        path: the file, e.g. as `distill mine` leaves it.
    """

    def __init__(self, path: str):
        self.path = path
        if not Path(path).is_file():
            raise BadInput(f"{path}: no such file")

    def examples(self, labelled: JudgedQueries) -> TrainingPairs:
        lines = list(self._lines())
        counts = [len(line["negatives"]) for line in lines]
        queries = self._rows(labelled.queries.ids, [line["query"] for line in lines], range(len(lines)), "query", optional=True)
        positives = self._rows(labelled.corpus, [line["positive"] for line in lines], range(len(lines)), "document")
        flat = [document for line in lines for document in line["negatives"]]
        found = self._rows(labelled.corpus, flat, np.repeat(np.arange(len(lines)), counts), "document")
        pools = np.full((len(lines), max(counts)), -1, np.int64)
        pools[np.arange(max(counts)) < np.array(counts)[:, None]] = found
        known = queries >= 0  # a query that another split asks too is not trained on
        if not known.any():
            raise BadInput(f"{self.path}: none of its queries is in the split {labelled.split!r}: give the file that was mined for it")
        return TrainingPairs(queries[known], positives[known], pools[known])

    def fingerprint(self) -> str:
        return file_fingerprint(Path(self.path))

    def _lines(self) -> Iterator[dict[str, Any]]:
        number = 0
        with open(self.path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    query, positive, negatives = (record[key] for key in ("query", "positive", "negatives"))
                    found = {"query": str(query), "positive": str(positive), "negatives": [str(id_) for id_ in negatives]}
                except (ValueError, KeyError, TypeError, RecursionError):
                    wanted = '{"query": id, "positive": id, "negatives": [ids]}'
                    raise BadInput(f"{self.path}: line {number} is not {wanted}") from None
                yield found
        if not number:
            raise BadInput(f"{self.path}: the file is empty")

    def _rows(self, known: Ids, ids: list[str], lines: Any, what: str, optional: bool = False) -> np.ndarray:
        rows = known.rows(ids)
        if not optional and (rows < 0).any():
            first = int(np.argmax(rows < 0))
            raise BadInput(f"{self.path}: line {lines[first] + 1}: {what} {ids[first]!r} is not in the corpus: mine it from these texts")
        return rows
