"""What the watchers of a student's training have in common: they see each loss term as it is made, and the dev queries' vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.distributed import all_rows
from distill.losses import Loss
from distill.records import Batch, Encoded


class Watch(Callback):
    """Calls `on_term` for every loss term of every step, and, after every evaluation and on every rank, `on_dev`."""

    def __init__(self) -> None:
        self._dev: list[tuple[np.ndarray, Tensor]] = []

    def on_term(self, name: str, weight: float, student: Encoded, teacher: Encoded, value: Tensor) -> None:
        """A term before its weight, still with its graph."""

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        """Vectors [Q, D] float32 of the dev queries `rows`, on the host; all of them, in their order."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        losses: dict[str, Any] = pl_module.losses  # type: ignore[assignment]
        for name, loss in losses.items():
            losses[name] = WatchedLoss(name, loss, self)

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
        rows, student = (all_rows(part.to(pl_module.device)).cpu() for part in (rows, student))
        order, self._dev = rows.argsort(), []
        teacher = torch.from_numpy(trainer.datamodule.dev_vectors.take(rows[order].numpy())).float()  # type: ignore[attr-defined]
        self.on_dev(trainer, pl_module, rows[order].numpy(), student[order], teacher)


class WatchedLoss:
    """A loss that tells its watcher what it saw; to the module it is the loss."""

    def __init__(self, name: str, loss: Loss, watcher: Watch):
        self._name, self._loss, self._watcher = name, loss, watcher

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        value = self._loss(student, teacher)
        self._watcher.on_term(self._name, self._loss.weight, student, teacher, value)
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loss, name)
