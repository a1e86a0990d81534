"""Metrics of a teacher during its training: the judged dev queries, re-ranked or searched for."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.callbacks.retrieval_eval import judged_metrics


class TeacherEval(Callback):
    """Logs after every validation, as `dev/...`:

    `mrr@10`, `ndcg@10` and `recall@100`; for a cross encoder also `first_stage_...`, the same of the order that it re-ranks;
    `seconds` it took. Every rank measures its own share of the queries, and all ranks log the same numbers.
    """

    def __init__(self) -> None:
        self._outputs: list[tuple[np.ndarray, Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._outputs = []
        self._started = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._outputs.append((batch.query_rows.numpy(), outputs))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data, teacher = trainer.datamodule, pl_module  # type: ignore[attr-defined]
        share = np.concatenate([rows for rows, _ in self._outputs])
        found = {"": teacher.rank_documents(data, share, torch.cat([output for _, output in self._outputs]))}  # type: ignore[operator]
        if teacher.reranks:
            found["first_stage_"] = torch.from_numpy(data.dev_candidates[share])
        judged = {prefix: self._judged(data, share, rows, teacher.device) for prefix, rows in found.items()}
        values = {f"dev/{prefix}{name}": value for prefix, metrics in judged.items() for name, value in metrics.items()}
        values["dev/seconds"] = time.perf_counter() - self._started
        teacher.log_dict(values, batch_size=1)  # a weight would round it

    def _judged(self, data: Any, share: np.ndarray, rows: Tensor, device: torch.device) -> dict[str, float]:
        """Each metric over the queries of all ranks; `rows` [Q, k] are this rank's."""
        ids = [data.dev_queries.ids[row] for row in share]
        grades = [torch.from_numpy(part).to(device) for part in data.dev_qrels.grade(ids, data.corpus, rows.numpy())]
        metrics = judged_metrics(data.source.relevant_from)
        for metric in metrics.values():
            metric.to(device).update(*grades)  # where the ranks can add theirs
        return {name: float(metric.compute()) for name, metric in metrics.items()}
