"""Measures retrieval metrics during training: searches the stored corpus for the dev queries, on the training device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.callbacks.abroad import Abroad
from distill.callbacks.dev_evaluation import DevOutputs, measure_judged, require_retrieval_data
from distill.files.ranks import max_over_ranks
from distill.metrics.query_means import MeanCosine, Overlap
from distill.modules.documents import embed_documents
from distill.records import Batch
from distill.texts.qrels import Qrels
from distill.vectors.resident import CORPORA
from distill.vectors.sharded import search_on_ranks
from distill.vectors.store import VectorStore

TOP = 100  # documents retrieved for each query


@dataclass(frozen=True)
class DevRankings:
    """The documents that teacher and student rank first for this rank's dev queries."""

    query_rows: np.ndarray  # [Q] int64, rows of the dev queries
    teacher: np.ndarray  # [Q, TOP] int64, rows of the store's documents, best first
    student: np.ndarray  # [Q, TOP] int64


@dataclass(frozen=True)
class SearchedDocuments:
    """The N documents that are searched on dev, with the vectors of teacher and student."""

    rows: np.ndarray  # [N] int64, rows of the store
    teacher: VectorStore | Tensor  # [N, D]
    student: VectorStore | Tensor  # [N, D], the teacher's vectors if the student inherits them


class RetrievalEval(Callback):
    """Logs retrieval metrics as `dev/...` after every validation.

    For a judged dev split these are `mrr@10`, `ndcg@10`, `recall@100` and their retention (student divided by teacher). `overlap@10` is
    the share of the teacher's top 10 that the student also retrieves, `cosine` the cosine to the teacher's query vectors, and `seconds`
    the duration of the evaluation.

    The documents are the teacher's stored vectors; if the student embeds documents itself, teacher and student both search
    `data.dev_documents` of them. Every rank has its own share of the queries and searches its share of the documents for those of all, and
    all ranks log the same means. `rankings` are the rankings of the last evaluation.

    With `data.dev_suite`, `NAME/overlap@10` and `NAME/retention_ndcg@10` are those of each collection of other domains, `abroad_...` their
    means, and `mean_...` those of all collections and home.
    """

    def __init__(self) -> None:
        self._outputs = DevOutputs()
        self.rankings: DevRankings | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.data = require_retrieval_data(trainer, self)
        self._abroad = Abroad(self.data.dev_collections, TOP)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.limit_val_batches:
            self._abroad.rank_by_teacher(pl_module.device)  # what cannot be measured is refused before anything is trained
            CORPORA.release()  # which documents may stay on a GPU is seen when the training has what it needs

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._outputs.clear()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any) -> None:
        self._outputs.add(batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        query_rows = self._outputs.query_rows
        student = self._outputs.stack(self.data.store.documents.width).to(pl_module.device)  # [Q, D]
        teacher = torch.from_numpy(self.data.dev_vectors.take(query_rows)).to(student.device).to(student.dtype)  # [Q, D]
        documents = self._choose_documents(pl_module)
        rankings = self._rank(query_rows, teacher, student, documents)
        values = self._measure_agreement(rankings, student, teacher)
        if self.data.dev_qrels is not None:
            values |= self._measure_retention(rankings, self.data.dev_qrels, pl_module.device)
        self.rankings = rankings
        values |= self._abroad.measure(trainer, pl_module, values)
        values["seconds"] = self._outputs.seconds
        pl_module.log_dict({f"dev/{name}": value for name, value in values.items()}, batch_size=1)  # a larger weight would round the values

    def _choose_documents(self, student: Any) -> SearchedDocuments:
        stored = self.data.store.documents
        if student.document_tower is None:
            return SearchedDocuments(np.arange(len(stored)), stored, stored)
        rows = self.data.dev_corpus
        vectors = embed_documents(student, student.document_tower, *self.data.document_tokens(rows)).half()  # the precision of a store
        return SearchedDocuments(rows, torch.from_numpy(stored.take(rows)), vectors)

    def _rank(self, query_rows: np.ndarray, teacher: Tensor, student: Tensor, documents: SearchedDocuments) -> DevRankings:
        """Ranks the documents for query vectors [Q, D] of both; where both search the same ones, these are read once."""
        teacher_rows = self._find_teacher_ranking(query_rows, student.device)
        if teacher_rows is None and documents.teacher is documents.student:
            both = self._rank_documents(np.tile(query_rows, 2), torch.cat([teacher, student]), documents, documents.student)
            return DevRankings(query_rows, *np.split(both, 2))
        if teacher_rows is None:
            teacher_rows = self._rank_documents(query_rows, teacher, documents, documents.teacher)
        return DevRankings(query_rows, teacher_rows, self._rank_documents(query_rows, student, documents, documents.student))

    def _find_teacher_ranking(self, query_rows: np.ndarray, device: torch.device) -> np.ndarray | None:
        """Returns the teacher's documents [Q, TOP] of an earlier evaluation, as they do not change.

        None where it was of other queries on any rank, as all ranks search together.
        """
        is_known = self.rankings is not None and np.array_equal(self.rankings.query_rows, query_rows)
        if max_over_ranks(int(not is_known), device):
            return None
        assert self.rankings is not None
        return self.rankings.teacher

    def _rank_documents(
        self, query_rows: np.ndarray, queries: Tensor, documents: SearchedDocuments, vectors: VectorStore | Tensor
    ) -> np.ndarray:
        """Searches vectors [N, D] for queries [Q, D], without each query's own document; rows of -1 are padding."""
        own = self.data.dev_own_documents
        left_out = None if own is None else find_places(documents.rows, own[query_rows])
        places = search_on_ranks(queries, vectors, min(TOP, len(documents.rows)), left_out)[1].cpu().numpy()  # [Q, TOP]
        return documents.rows[places] if own is None else np.where(places >= 0, documents.rows[places], -1)

    def _measure_agreement(self, rankings: DevRankings, student: Tensor, teacher: Tensor) -> dict[str, float]:
        """Measures the overlap of the rankings and the cosine of the query vectors [Q, D], over the queries of all ranks."""
        overlap, cosine = Overlap(10).to(student.device), MeanCosine().to(student.device)
        overlap.update(torch.from_numpy(rankings.teacher).to(student.device), torch.from_numpy(rankings.student).to(student.device))
        cosine.update(teacher, student)
        return {"overlap@10": float(overlap.compute()), "cosine": float(cosine.compute())}

    def _measure_retention(self, rankings: DevRankings, qrels: Qrels, device: torch.device) -> dict[str, float]:
        """Measures the student's judged metrics and their ratios to the teacher's, over the queries of all ranks."""
        ids = [self.data.dev_texts.ids[row] for row in rankings.query_rows]
        judged = qrels.judged_positions(ids)  # [J]
        judged_ids = [ids[position] for position in judged]

        def measure(rows: np.ndarray) -> dict[str, float]:
            corpus, relevant_from = self.data.store.documents.ids, self.data.source.relevant_from
            return measure_judged(qrels, judged_ids, corpus, rows[judged], relevant_from, device)

        teacher, student = measure(rankings.teacher), measure(rankings.student)
        return student | {f"retention_{name}": student[name] / teacher[name] for name in student if teacher[name] > 0}


def find_places(searched: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the place of each row [Q] among the searched ones [N], which ascend; -1 where it is not searched.

    >>> find_places(np.array([2, 5, 9]), np.array([5, 6, -1])).tolist()
    [1, -1, -1]
    """
    places = np.searchsorted(searched, rows).clip(max=len(searched) - 1)
    return np.where(searched[places] == rows, places, -1)
