"""What the watchers of a student's training have in common: the dev queries' vectors after every evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.files.ranks import gather_rows
from distill.records import Batch


class DevWatcher(Callback):
    """Calls `on_dev` after every evaluation and on every rank."""

    def __init__(self) -> None:
        self._dev: list[tuple[np.ndarray, Tensor]] = []

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        """Vectors [Q, D] float32 of the dev queries `rows`, on the host; all of them, in their order."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._dev = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._dev.append((batch.query_rows.numpy(), outputs.cpu()))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        width = trainer.datamodule.store.documents.width  # type: ignore[attr-defined]
        rows = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in self._dev)]))
        student = torch.cat([torch.empty(0, width), *(vectors.float() for _, vectors in self._dev)])
        rows, student = (gather_rows(part.to(pl_module.device)).cpu() for part in (rows, student))
        order, self._dev = rows.argsort(), []
        teacher = torch.from_numpy(trainer.datamodule.dev_vectors.take(rows[order].numpy())).float()  # type: ignore[attr-defined]
        self.on_dev(trainer, pl_module, rows[order].numpy(), student[order], teacher)
