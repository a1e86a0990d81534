"""Retrieval metrics during training: the dev queries against the whole stored corpus, on the training device."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from distill.metrics.query_means import MRR, NDCG, MeanCosine, Overlap, Recall
from distill.modules.documents import embed_documents
from distill.records import Batch
from distill.vectors.search import search

TOP = 100  # documents searched for each query


class RetrievalEval(Callback):
    """Logs after every validation, as `dev/...`:

    `mrr@10`, `ndcg@10`, `recall@100` and their retention (student over teacher) where dev is judged; `overlap@10` (share of the
    teacher's top 10 that the student finds too) and `cosine` (to the teacher's query vectors) always; `seconds` it took.

    Only queries are encoded, as the documents are the teacher's stored vectors; where the student embeds documents itself, both search
    `data.dev_documents` of them. Every rank searches its own share of the queries,
    each query is counted once, and all ranks log the same numbers.
    """

    def __init__(self) -> None:
        self._encoded: list[tuple[np.ndarray, Tensor]] = []
        self._teacher_rows: Tensor | None = None  # [Q of this rank, TOP]
        # this rank's dev queries [Q], and which of the store's documents [Q, TOP] teacher and student put first in the last evaluation
        self.found: tuple[np.ndarray, np.ndarray, np.ndarray]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._encoded = []
        self._started = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._encoded.append((batch.query_rows.numpy(), outputs))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        share = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in self._encoded)])
        vectors = torch.cat([vectors for _, vectors in self._encoded] or [torch.empty(0, data.store.documents.width)])
        vectors = vectors.to(pl_module.device)
        teacher = torch.from_numpy(data.dev_vectors.take(share)).to(vectors)
        corpus, stored, own = self._documents(data, pl_module)
        top = min(TOP, len(corpus))
        rows = search(vectors, own, top)[1]
        if self._teacher_rows is None or len(self._teacher_rows) != len(share):
            self._teacher_rows = search(teacher, stored, top)[1]
        self.found = share, corpus[self._teacher_rows.cpu().numpy()], corpus[rows.cpu().numpy()]
        values = self._agreement(rows, self._teacher_rows, vectors, teacher)
        if data.dev_qrels is not None:
            ids = [data.dev_texts.ids[row] for row in share]
            judged = data.dev_qrels.judged(ids)
            ids = [ids[query] for query in judged]
            theirs, ours = (self._judged(data, ids, found[judged], rows.device) for found in self.found[1:])
            values |= ours | {f"retention_{name}": ours[name] / theirs[name] for name in ours if theirs[name] > 0}
        values["seconds"] = time.perf_counter() - self._started
        pl_module.log_dict({f"dev/{name}": value for name, value in values.items()}, batch_size=1)  # a weight would round it

    def _documents(self, data: Any, student: Any) -> tuple[np.ndarray, Any, Any]:
        """Rows of the documents that are searched, the teacher's vectors of them, and the student's, which may be the same."""
        stored = data.store.documents
        if student.document_tower is None:
            return np.arange(len(stored)), stored, stored
        corpus = data.dev_corpus
        own = embed_documents(student, student.document_tower, data.document_texts, corpus).half()  # as exact as a store's
        return corpus, torch.from_numpy(stored.take(corpus)), own

    def _agreement(self, rows: Tensor, teacher_rows: Tensor, vectors: Tensor, teacher: Tensor) -> dict[str, float]:
        overlap, cosine = Overlap(10).to(rows.device), MeanCosine().to(rows.device)
        overlap.update(teacher_rows, rows)
        cosine.update(teacher, vectors)
        return {"overlap@10": float(overlap.compute()), "cosine": float(cosine.compute())}

    def _judged(self, data: Any, query_ids: list[str], rows: np.ndarray, device: torch.device) -> dict[str, float]:
        grades = [torch.from_numpy(part).to(device) for part in data.dev_qrels.grade(query_ids, data.store.documents.ids, rows)]
        metrics = judged_metrics(data.source.relevant_from)
        for metric in metrics.values():
            metric.to(device).update(*grades)  # where the ranks can add theirs
        return {name: float(metric.compute()) for name, metric in metrics.items()}


def judged_metrics(relevant_from: int) -> dict[str, Metric]:
    """The metrics of a labelled split; grades from `relevant_from` up count as relevant where a metric knows only yes and no."""
    return {"mrr@10": MRR(10, relevant_from), "ndcg@10": NDCG(10), "recall@100": Recall(100, relevant_from)}
