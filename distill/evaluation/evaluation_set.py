"""One corpus, one split of its queries, and the teacher's vectors of both: what students are measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from distill.evaluation.systems import System, open_system
from distill.files.device import best_device
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput, Ranking
from distill.teachers.function import as_float32
from distill.teachers.open_stored import open_evaluation_queries
from distill.texts.grading import grade_judged
from distill.texts.ids import Ids
from distill.texts.matching_ids import check_judged_documents, check_run
from distill.texts.own_documents import drop_own_documents, find_own_documents, warn_of_copies
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.chunk import finite_lengths
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore, VectorStore

TOP = 100  # documents retrieved for each query
COPIES_CHECKED = 10  # first documents of each ranking that are read in a large corpus, to find copies of the query
Documents = VectorStore | np.ndarray


class TeacherVectors(Protocol):
    """The teacher's vectors of a corpus and of its queries."""

    @property
    def documents(self) -> Documents:
        """[N, D] vectors of the corpus."""

    @property
    def document_ids(self) -> Ids:
        """[N] id of each of them."""

    def query_vectors(self, split: str) -> Tensor:
        """[Q, D] float32 vectors of the queries of a split, in the source's order."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Name and fingerprint, for results.json."""


@dataclass(frozen=True)
class StoredVectors:
    """A teacher whose vectors are in a store."""

    source: TextSource
    store: TeacherStore

    @property
    def documents(self) -> VectorStore:
        return self.store.documents

    @property
    def document_ids(self) -> Ids:
        return self.store.documents.ids

    def has_queries(self, split: str) -> bool:
        """Whether the teacher's vectors of a split are stored."""
        return split in self.store.query_sets()

    def query_vectors(self, split: str) -> Tensor:
        _, stored = open_evaluation_queries(self.source, self.store, split)
        for store in stored.stores:
            store.verify()
        return torch.from_numpy(stored.take(np.arange(len(stored)))).float()

    @property
    def provenance(self) -> dict[str, Any]:
        return self.store.maker.to_json()


@dataclass(frozen=True)
class ModelVectors:
    """A teacher whose model embeds the texts now."""

    source: TextSource
    system: System

    @cached_property
    def documents(self) -> np.ndarray:
        return embed_documents(self.system, self.source)

    @property
    def document_ids(self) -> Ids:
        return self.source.documents().ids

    def query_vectors(self, split: str) -> Tensor:
        return torch.from_numpy(self.system.encode(list(self.source.queries(split)), "query"))

    @property
    def provenance(self) -> dict[str, Any]:
        return {"name": self.system.name, "fingerprint": self.system.fingerprint}


@dataclass(frozen=True)
class GivenVectors:
    """A teacher of which there are vectors alone: of one split's queries and of the documents, in the source's order."""

    source: TextSource
    split: str
    queries: np.ndarray  # [Q, D]
    documents: np.ndarray  # [N, D]

    @property
    def document_ids(self) -> Ids:
        return self.source.documents().ids

    def query_vectors(self, split: str) -> Tensor:
        if split != self.split:
            raise BadInput(f"{split}: the given vectors are of the queries of {self.split}")
        return torch.from_numpy(self.queries)

    @property
    def provenance(self) -> dict[str, Any]:
        return {"name": "given vectors", "fingerprint": None}


def open_teacher(teacher: Any, source: TextSource, split: str) -> tuple[TeacherVectors, System | None]:
    """The teacher's vectors, and its model where that is here.

    Args:
        teacher: a store's folder or a TeacherStore; two arrays, of the queries [Q, D] and of the documents [N, D]; or any model that
            `open_system` takes.
    """
    if isinstance(teacher, str | Path) and (Path(teacher) / "documents" / "plan.json").exists():
        teacher = TeacherStore(teacher)
    if isinstance(teacher, TeacherStore):
        teacher.documents.verify()
        check_documents(teacher.documents, source)
        return StoredVectors(source, teacher), None
    if isinstance(teacher, tuple):
        queries, documents = (as_float32(vectors) for vectors in teacher)
        _check_rows("teacher", queries, len(source.queries(split)), "queries")
        _check_rows("teacher", documents, len(source.documents()), "documents")
        return GivenVectors(source, split, queries, documents), None
    system = open_system(teacher)
    return ModelVectors(source, system), system


def _check_rows(name: str, vectors: np.ndarray, expected: int, what: str) -> None:
    if len(vectors) != expected:
        raise BadInput(f"{name}: {len(vectors)} vectors, but there are {expected} {what}: give one for each, in their order")


def embed_documents(system: System, source: TextSource) -> np.ndarray:
    """[N, D] float32 vectors of the corpus, in its order."""
    return system.encode(list(source.documents()), "document")


@dataclass(frozen=True)
class EvaluationSet:
    """The corpus, one split of its queries, and the teacher's vectors of both."""

    source: TextSource
    split: str
    teacher: TeacherVectors

    @cached_property
    def queries(self) -> Texts:
        return self.source.queries(self.split)

    @cached_property
    def query_ids(self) -> list[str]:
        return list(self.queries.ids)

    @cached_property
    def teacher_vectors(self) -> Tensor:
        """[Q, D] float32."""
        return self.teacher.query_vectors(self.split)

    def rank_documents(self, name: str, vectors: Tensor, documents: Documents | None = None, ids: Ids | None = None) -> Ranking:
        """The documents nearest to query vectors [Q, D]; a query's own document is left out.

        Args:
            name: of the ranking.
            vectors: [Q, D].
            documents: other vectors of the same corpus to search; the teacher's by default.
            ids: id of each of them, where they lie in another order than the teacher's.
        """
        return self.rank_systems({name: vectors}, documents, ids)[name]

    def rank_systems(self, vectors: Mapping[str, Tensor], documents: Documents | None = None, ids: Ids | None = None) -> dict[str, Ranking]:
        """The same for the query vectors [Q, D] of several systems by name: the documents are read once for all."""
        searched = self.teacher.documents if documents is None else documents
        width = searched.shape[1]
        for name, part in vectors.items():
            if part.shape[1] != width:
                widths = f"its vectors are {part.shape[1]} wide, the documents' {width}, so they are not in one space"
                raise BadInput(f'{name}: {widths}: evaluate it with documents="student"')
            finite_lengths(part.float(), f"{name}: query vectors")
        own = find_own_documents(self.source, self.split, self.queries.ids, self.teacher.document_ids if ids is None else ids)
        left_out = None if own is None else np.tile(own, len(vectors))
        queries = torch.cat([part.float() for part in vectors.values()]).to(best_device())
        scores, rows = (part.cpu().numpy() for part in search(queries, searched, min(TOP, len(searched)), left_out=left_out))
        if ids is not None:
            rows = translate_rows(rows, ids, self.teacher.document_ids)
        parts = zip(vectors, np.split(rows, len(vectors)), np.split(scores, len(vectors)), strict=True)
        return {name: Ranking(self.query_ids, own_rows, own_scores, name) for name, own_rows, own_scores in parts}

    def read_ranking(self, name: str, path: Path) -> Ranking:
        """The ranking in a TREC run file; a query's own document is left out, and those below it move up."""
        lines = drop_own_documents(self.source, self.split, read_trec(path), path)
        rows, scores = rows_and_scores([lines.get(query, []) for query in self.query_ids], self.teacher.document_ids)
        check_run(path, lines, self.query_ids, rows, self.teacher.document_ids)
        return Ranking(self.query_ids, rows, scores, name)

    def check_judgments(self) -> None:
        """Refuses judgments of which every system would score 0, as no document is in the corpus; logs how many the corpus lacks."""
        check_judged_documents(self.source, self.split, self.teacher.document_ids)

    def count_own_documents(self) -> int:
        """The number of queries whose own document is left out of the rankings."""
        rows = find_own_documents(self.source, self.split, self.queries.ids, self.teacher.document_ids)
        return 0 if rows is None else int((rows >= 0).sum())

    def warn_of_copied_queries(self, rankings: Mapping[str, Ranking]) -> None:
        """Warns where a query has the wording of a document; in a large corpus only the first documents of each ranking are read."""
        if self.source.has_documents():
            ranked = np.unique(np.concatenate([ranking.rows[:, :COPIES_CHECKED].ravel() for ranking in rankings.values()]))
            warn_of_copies(self.source, self.split, translate_rows(ranked, self.teacher.document_ids, self.source.documents().ids))

    def measure(self, ranking: Ranking) -> dict[str, np.ndarray]:
        """Values of each metric, one for each judged query; empty where the split is not judged."""
        qrels = self.source.qrels(self.split)
        return grade_judged(qrels, self.query_ids, self.teacher.document_ids, ranking.rows, self.source.relevant_from)


def translate_rows(rows: np.ndarray, ids: Ids, others: Ids) -> np.ndarray:
    """Rows of `others` for rows of `ids` of any shape, by id; -1 stays -1."""
    used, place = np.unique(rows, return_inverse=True)
    translated = others.rows([ids[row] for row in used])
    # of a row of -1 the last id was looked up
    return np.where(used >= 0, translated, -1)[place.reshape(rows.shape)]


def rows_and_scores(rankings: Sequence[Sequence[tuple[str, float]]], corpus: Ids) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores [Q, TOP] of rankings read from a run file; a document outside the corpus keeps its rank, as row -1."""
    rows = np.full((len(rankings), TOP), -1)
    scores = np.full((len(rankings), TOP), -np.inf, np.float32)
    for query, ranking in enumerate(rankings):
        top = ranking[:TOP]
        rows[query, : len(top)] = corpus.rows([document for document, _ in top])
        scores[query, : len(top)] = [score for _, score in top]
    return rows, scores
