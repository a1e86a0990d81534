"""Warns of what goes wrong in a distillation without an error: one line a fault, and again to a tracker that takes alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from distill.callbacks.dev_evaluation import DevWatcher
from distill.callbacks.diagnosis import (
    DEV_QUERIES,
    Fault,
    find_collapse,
    find_idle_loss,
    find_leaks,
    find_misfits,
    find_other_norms,
    measure_spread,
)
from distill.callbacks.fault_log import FaultLog
from distill.callbacks.loss_guard import LossGuard, TrainedBatch
from distill.records import Batch


class Health(DevWatcher):
    """Warns of what spoils a student, stops where going on is useless. Each fault is reported once.

    At the start: dev queries among the training queries; vectors that the teacher does not write, or that belong to other texts.
    On every step: a loss that is no number (see `LossGuard`).
    After every evaluation: collapse and drift of norms; on the next step: a loss term without gradient.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder
        self.faults = FaultLog(folder)
        self._losses_unchecked = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.guard = LossGuard(self.folder, self.faults, self.data)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self.faults.rewind()
        if trainer.global_step == 0:
            self._report(trainer, find_leaks(self.data))
            self._report(trainer, find_misfits(self.data))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if not self._losses_unchecked:
            return
        self._losses_unchecked = False
        module: Any = pl_module
        step = module.last_step
        for name, value in step.losses.items():
            self._report(trainer, find_idle_loss(name, module.losses[name].weight, value, step.student))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self.guard.add(trainer, TrainedBatch(trainer.global_step, batch.query_rows.tolist(), outputs["loss"].detach()))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.guard.check(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.guard.check(trainer)  # where nothing is evaluated

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        self._losses_unchecked = True
        if not torch.isfinite(student).all():  # by the last step, whose loss was a number, but not its gradient
            self.guard.stop_after_last_step(trainer, "a vector of the student is no number")
        ours, theirs = measure_spread(student[:DEV_QUERIES]), measure_spread(teacher[:DEV_QUERIES])
        module.log_dict({f"health/{name}": value for name, value in ours._asdict().items()}, batch_size=len(rows))
        self._report(trainer, find_collapse(ours, theirs))
        self._report(trainer, find_other_norms(ours, theirs))

    def state_dict(self) -> dict[str, Any]:
        return {"told": sorted(self.faults.reported)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.faults.reported = set(state_dict["told"])

    def _report(self, trainer: Trainer, fault: Fault | None) -> None:
        if fault is not None:
            self.faults.report(trainer, fault)
