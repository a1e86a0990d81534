"""Retrieval metrics during training: the dev queries against the whole stored corpus, on the training device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.callbacks.dev_evaluation import DevOutputs, measure_judged, require_retrieval_data
from distill.metrics.query_means import MeanCosine, Overlap
from distill.modules.documents import embed_documents
from distill.records import Batch
from distill.texts.qrels import Qrels
from distill.vectors.search import search
from distill.vectors.store import VectorStore

TOP = 100  # documents searched for each query


@dataclass(frozen=True)
class DevRankings:
    """The documents that teacher and student rank first for this rank's dev queries."""

    query_rows: np.ndarray  # [Q] int64, rows of the dev queries
    teacher: np.ndarray  # [Q, TOP] int64, rows of the store's documents, best first
    student: np.ndarray  # [Q, TOP] int64


@dataclass(frozen=True)
class SearchedDocuments:
    """N documents that dev queries search, as the teacher and as the student embed them."""

    rows: np.ndarray  # [N] int64, rows of the store
    teacher: VectorStore | Tensor  # [N, D]
    student: VectorStore | Tensor  # [N, D], the teacher's own where the student inherits them


class RetrievalEval(Callback):
    """Logs after every validation, as `dev/...`:

    `mrr@10`, `ndcg@10`, `recall@100` and their retention (student over teacher) where dev is judged; `overlap@10` (share of the
    teacher's top 10 that the student retrieves too) and `cosine` (to the teacher's query vectors) always; `seconds` it took.

    Only queries are encoded, as the documents are the teacher's stored vectors; where the student embeds documents itself, both search
    `data.dev_documents` of them. Every rank searches for its own share of the queries, each query is counted once, and all ranks log
    the same numbers. `rankings` are those of the last evaluation.
    """

    def __init__(self) -> None:
        self._outputs = DevOutputs()
        self.rankings: DevRankings | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.data = require_retrieval_data(trainer, self)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._outputs.clear()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any) -> None:
        self._outputs.add(batch, outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        query_rows = self._outputs.query_rows
        student = self._outputs.stack(self.data.store.documents.width).to(pl_module.device)  # [Q, D]
        teacher = torch.from_numpy(self.data.dev_vectors.take(query_rows)).to(student)  # [Q, D]
        documents = self._choose_documents(pl_module)
        found = search(student, documents.student, min(TOP, len(documents.rows)))[1]  # [Q, TOP]
        rankings = DevRankings(query_rows, self._rank_by_teacher(query_rows, teacher, documents), documents.rows[found.cpu().numpy()])
        values = self._measure_agreement(rankings, student, teacher)
        if self.data.dev_qrels is not None:
            values |= self._measure_retention(rankings, self.data.dev_qrels, pl_module.device)
        self.rankings = rankings
        values["seconds"] = self._outputs.seconds
        pl_module.log_dict({f"dev/{name}": value for name, value in values.items()}, batch_size=1)  # a weight would round it

    def _choose_documents(self, student: Any) -> SearchedDocuments:
        stored = self.data.store.documents
        if student.document_tower is None:
            return SearchedDocuments(np.arange(len(stored)), stored, stored)
        rows = self.data.dev_corpus
        own = embed_documents(student, student.document_tower, self.data.document_texts, rows).half()  # as exact as a store's
        return SearchedDocuments(rows, torch.from_numpy(stored.take(rows)), own)

    def _rank_by_teacher(self, query_rows: np.ndarray, teacher: Tensor, documents: SearchedDocuments) -> np.ndarray:
        """[Q, TOP] the teacher's documents, which an earlier evaluation of as many queries has searched for already."""
        if self.rankings is not None and len(self.rankings.query_rows) == len(query_rows):
            return self.rankings.teacher
        found = search(teacher, documents.teacher, min(TOP, len(documents.rows)))[1]
        return documents.rows[found.cpu().numpy()]

    def _measure_agreement(self, rankings: DevRankings, student: Tensor, teacher: Tensor) -> dict[str, float]:
        """How alike both sides' rankings and query vectors [Q, D] are, over the queries of all ranks."""
        overlap, cosine = Overlap(10).to(student.device), MeanCosine().to(student.device)
        overlap.update(torch.from_numpy(rankings.teacher).to(student.device), torch.from_numpy(rankings.student).to(student.device))
        cosine.update(teacher, student)
        return {"overlap@10": float(overlap.compute()), "cosine": float(cosine.compute())}

    def _measure_retention(self, rankings: DevRankings, qrels: Qrels, device: torch.device) -> dict[str, float]:
        """The student's judged metrics, and their ratios to the teacher's, over the queries of all ranks."""
        ids = [self.data.dev_texts.ids[row] for row in rankings.query_rows]
        judged = qrels.judged_positions(ids)  # [J]
        judged_ids = [ids[position] for position in judged]

        def measure(rows: np.ndarray) -> dict[str, float]:
            corpus, relevant_from = self.data.store.documents.ids, self.data.source.relevant_from
            return measure_judged(qrels, judged_ids, corpus, rows[judged], relevant_from, device)

        teacher, student = measure(rankings.teacher), measure(rankings.student)
        return student | {f"retention_{name}": student[name] / teacher[name] for name in student if teacher[name] > 0}
