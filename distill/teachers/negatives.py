"""Sources of a query's hard negatives: random documents, a teacher's ranking, or a file of mined negatives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.files.configs import Configurable
from distill.files.fingerprints import file_fingerprint
from distill.records import BadInput
from distill.teachers.first_stage import retrieve_from_store
from distill.teachers.mined import read_mined_lines
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.store import TeacherStore


@dataclass(frozen=True)
class JudgedQueries:
    """The queries to train on, their judgments, and the ids of the judged corpus."""

    source: TextSource
    split: str
    queries: Texts
    qrels: Qrels
    corpus: Ids

    def relevant_pairs(self, from_grade: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of queries [E] and of their documents [E] with grade `from_grade` or more; only documents of the corpus."""
        return self.qrels.relevant_pairs(self.queries.ids, self.corpus, from_grade)


@dataclass(frozen=True)
class TrainingPairs:
    """The examples to train a teacher on: E queries, each with a positive and a pool to draw its negatives from."""

    queries: np.ndarray  # [E] int64, rows of the training queries
    positives: np.ndarray  # [E] int64, rows of the corpus
    pools: np.ndarray  # [E, P] int64, rows of the corpus; rows of -1 are padding

    def __len__(self) -> int:
        return len(self.queries)


class Negatives(Configurable):
    """A source of hard negatives. Where the pool of a query has too few, the sampler adds random documents."""

    def select_pairs(self, judged: JudgedQueries) -> TrainingPairs:
        """Returns the pairs to train on, each with its pool. A pool may contain relevant documents: the sampler removes them."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Returns the fingerprint of the inputs of the pools, other than queries and corpus."""
        return ""


class RandomNegatives(Negatives):
    """Documents drawn at random from the corpus, anew in every epoch.

    >>> RandomNegatives().fingerprint()
    ''
    """

    def select_pairs(self, judged: JudgedQueries) -> TrainingPairs:
        """Returns every judged pair, with an empty pool."""
        queries, positives = judged.relevant_pairs(judged.source.relevant_from)
        return TrainingPairs(queries, positives, np.empty((len(queries), 0), np.int64))


class TopNegatives(Negatives):
    """The documents that a teacher ranks highest for the query.

    Args:
        store: folder of that teacher's vectors, written by `distill encode`.
        skip: number of top documents to leave out: these are often unjudged answers.
        depth: last rank from which negatives are drawn.
    """

    def __init__(self, store: str, skip: int = 0, depth: int = 100):
        if not 0 <= skip < depth:
            raise BadInput(f"data.negatives: skip {skip} must be at least 0 and below depth {depth}")
        self.store, self.skip, self.depth = store, skip, depth

    def select_pairs(self, judged: JudgedQueries) -> TrainingPairs:
        """Returns every judged pair, with the teacher's ranking as the pool."""
        queries, positives = judged.relevant_pairs(judged.source.relevant_from)
        unique, place = np.unique(queries, return_inverse=True)
        top = retrieve_from_store(self.store, judged.source, judged.split, judged.queries.subset(unique), self.depth)
        return TrainingPairs(queries, positives, top[place, self.skip :])

    def fingerprint(self) -> str:
        return TeacherStore(self.store).maker.fingerprint


class MinedNegatives(Negatives):
    """Negatives from a file with `{"query": id, "positive": id, "negatives": [ids]}` on every line. The lines are the training pairs too.

    Args:
        path: the file, e.g. one that `distill mine` wrote.
    """

    def __init__(self, path: str):
        self.path = path
        if not Path(path).is_file():
            raise BadInput(f"{path}: no such file")

    def select_pairs(self, judged: JudgedQueries) -> TrainingPairs:
        """Returns the pairs of the file whose queries are in the split; the file may also have queries of other splits."""
        lines = list(read_mined_lines(self.path))
        if not lines:
            raise BadInput(f"{self.path}: the file is empty")
        queries = judged.queries.ids.rows([line.query for line in lines])  # [L]
        positives = self._document_rows(judged.corpus, [[line.positive] for line in lines])[:, 0]  # [L]
        pools = self._document_rows(judged.corpus, [line.negatives for line in lines])  # [L, P]
        known = queries >= 0
        if not known.any():
            raise BadInput(f"{self.path}: none of its queries is in the split {judged.split!r}: give the file that was mined for it")
        return TrainingPairs(queries[known], positives[known], pools[known])

    def _document_rows(self, corpus: Ids, documents: list[list[str]]) -> np.ndarray:
        """Returns [L, P] rows of the documents of each line, padded with -1; refuses a document outside the corpus, by its line."""
        counts = np.array([len(ids) for ids in documents])  # [L]
        flat = [id_ for ids in documents for id_ in ids]
        flat_rows = corpus.rows(flat)
        if (flat_rows < 0).any():
            first = int(np.argmax(flat_rows < 0))
            line = int(np.searchsorted(counts.cumsum(), first, side="right")) + 1
            raise BadInput(f"{self.path}: line {line}: document {flat[first]!r} is not in the corpus: mine it from these texts")
        rows = np.full((len(documents), counts.max()), -1, np.int64)
        rows[np.arange(counts.max()) < counts[:, None]] = flat_rows
        return rows

    def fingerprint(self) -> str:
        return file_fingerprint(Path(self.path))
