"""Parts of the callbacks that evaluate on dev: their data, this rank's outputs, and metrics over the queries of all ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.data.datamodule import RetrievalData
from distill.files.ranks import gather_rows
from distill.metrics.query_means import judged_metrics
from distill.records import BadInput, Batch
from distill.texts.grading import grade_tensors
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels


def require_retrieval_data(trainer: Trainer, callback: Callback) -> RetrievalData:
    """Returns the trainer's RetrievalData; refuses a trainer without one."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, RetrievalData):
        raise BadInput(f"{type(callback).__name__} reads a RetrievalData: call trainer.fit(module, RetrievalData(...))")
    return data


class DevOutputs:
    """Collects the dev queries of this rank and the module's outputs for them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Starts a new evaluation."""
        self._rows: list[np.ndarray] = []
        self._outputs: list[Tensor] = []
        self._start_time = time.perf_counter()

    def add(self, batch: Any, outputs: Tensor) -> None:
        """Appends the `query_rows` [B] and the outputs [B, ...] of a batch."""
        self._rows.append(batch.query_rows.numpy())
        self._outputs.append(outputs)

    @property
    def seconds(self) -> float:
        """Time since the evaluation began."""
        return time.perf_counter() - self._start_time

    @property
    def query_rows(self) -> np.ndarray:
        """[Q] int64, rows of the dev queries."""
        return np.concatenate([np.empty(0, np.int64), *self._rows])

    def stack(self, width: int = 0) -> Tensor:
        """Concatenates the outputs [Q, ...] of all batches; [0, width] if this rank has no query."""
        return torch.cat(self._outputs or [torch.empty(0, width)])


class DevWatcher(Callback):
    """Calls `on_dev` after every evaluation, on every rank, with the vectors of all dev queries.

    `self.data` is the trainer's data.
    """

    data: RetrievalData

    def __init__(self) -> None:
        self._outputs = DevOutputs()

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        """Called with the student's and the teacher's vectors of the dev queries; a subclass implements it.

        Args:
            trainer: the trainer.
            module: the student's module, to log with.
            rows: [Q] int64, rows of the dev queries, ascending.
            student: [Q, D] float32, in CPU memory.
            teacher: [Q, D] float32, in CPU memory.
        """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.data = require_retrieval_data(trainer, self)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._outputs.clear()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: Any) -> None:
        self._outputs.add(batch, outputs.float().cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        vectors = self._outputs.stack(self.data.store.documents.width)
        rows = gather_rows(torch.from_numpy(self._outputs.query_rows).to(pl_module.device)).cpu()  # [Q]
        student = gather_rows(vectors.to(pl_module.device)).cpu()  # [Q, D]
        self._outputs.clear()
        order = rows.argsort()
        queries = rows[order].numpy()
        teacher = torch.from_numpy(self.data.dev_vectors.take(queries)).float()  # [Q, D]
        self.on_dev(trainer, pl_module, queries, student[order], teacher)


def measure_judged(
    qrels: Qrels, query_ids: Sequence[str], corpus: Ids, rows: np.ndarray, relevant_from: int, device: torch.device
) -> dict[str, float]:
    """Computes the mean of each judged metric over the queries of all ranks; every rank must call it, even one without queries.

    Args:
        qrels: the judgments.
        query_ids: ids of the Q judged queries of this rank.
        corpus: ids of the documents that `rows` point at.
        rows: [Q, k] int64, retrieved rows of the corpus, best first; rows of -1 are padding.
        relevant_from: lowest grade that MRR and recall count as relevant.
        device: device on which the ranks add their sums.
    """
    grades = grade_tensors(qrels, query_ids, corpus, rows, device)
    metrics = judged_metrics(relevant_from)
    for metric in metrics.values():
        metric.to(device).update(*grades)
    return {name: float(metric.compute()) for name, metric in metrics.items()}
