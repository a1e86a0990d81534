"""Sources of a query's hard negatives: random documents, a teacher's ranking, or a file of mined negatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from distill.files.configs import Configurable
from distill.files.fingerprints import file_fingerprint
from distill.files.progress import log
from distill.files.ranks import is_leader
from distill.records import BadInput
from distill.teachers.first_stage import retrieve_from_store
from distill.teachers.mined import read_mined_lines
from distill.texts.ids import Ids
from distill.texts.own_documents import find_own_documents
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

    @cached_property
    def own_documents(self) -> np.ndarray | None:
        """[Q] row of the document that has each query's id and does not answer it, -1 where there is none; None where no query has one."""
        return find_own_documents(self.source, self.split, self.queries.ids, self.corpus)

    def never_negatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of queries [E] and of documents [E] that are no negatives of them: with a grade above 0, or their own."""
        queries, documents = self.relevant_pairs(1)
        if self.own_documents is None:
            return queries, documents
        with_own = np.flatnonzero(self.own_documents >= 0)
        return np.concatenate([queries, with_own]), np.concatenate([documents, self.own_documents[with_own]])


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
            pair = f"{lines[0].query!r} is a query there, {judged.queries.ids[0]!r} here" if len(judged.queries) else "the split has none"
            fix = f"{pair}: give the file that was mined for it"
            raise BadInput(f"{self.path}: none of its queries is in the split {judged.split!r}: {fix}")
        if not known.all() and is_leader():
            log.info(f"{self.path}: {len(lines) - int(known.sum())} of its {len(lines)} queries are of other splits and are left out")
        queries, pools = queries[known], pools[known]
        if judged.own_documents is not None:
            pools = leave_out_rows(pools, judged.own_documents[queries])
        return TrainingPairs(queries, positives[known], pools)

    def _document_rows(self, corpus: Ids, documents: list[list[str]]) -> np.ndarray:
        """Returns [L, P] rows of the documents of each line, padded with -1; refuses a document outside the corpus, by its line."""
        counts = np.array([len(ids) for ids in documents])  # [L]
        flat = [id_ for ids in documents for id_ in ids]
        flat_rows = corpus.rows(flat)
        if (flat_rows < 0).any():
            first = int(np.argmax(flat_rows < 0))
            line = int(np.searchsorted(counts.cumsum(), first, side="right")) + 1
            pair = f"{flat[first]!r} is not in the corpus, where {corpus[0]!r} is a document" if len(corpus) else "there are none"
            raise BadInput(f"{self.path}: line {line}: document {pair}: mine it from these texts")
        rows = np.full((len(documents), counts.max()), -1, np.int64)
        rows[np.arange(counts.max()) < counts[:, None]] = flat_rows
        return rows

    def fingerprint(self) -> str:
        return file_fingerprint(Path(self.path))


def leave_out_rows(rows: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Returns rows [N, P] without the one of `left_out` [N]; the others keep their order, and -1 pads the end.

    >>> leave_out_rows(np.array([[4, 7, 5], [4, 7, -1]]), np.array([4, -1])).tolist()
    [[7, 5, -1], [4, 7, -1]]
    """
    is_left_out = rows == left_out[:, None]
    order = np.argsort(is_left_out, axis=1, kind="stable")
    return np.take_along_axis(np.where(is_left_out, -1, rows), order, axis=1)
