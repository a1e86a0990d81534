"""Warns of faults of a distillation that raise no error, in one line for each fault."""

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
    find_collapse,
    find_idle_loss,
    find_leaks,
    find_norm_drift,
    find_wrong_vectors,
    measure_spread,
)
from distill.callbacks.fault_log import FaultLog
from distill.callbacks.loss_guard import LossGuard, TrainedBatch
from distill.records import Batch
from distill.teachers.agreement import Fault


class Health(DevWatcher):
    """Warns of faults that make a student worse, once for each fault, and stops a training whose loss is no number.

    At the start it checks for dev queries among the training queries, and for stored vectors that do not fit their texts. On every step
    it checks that the loss is a number (see `LossGuard`). After every evaluation it checks for collapse and for vectors of another
    length, and on the next step for losses without gradient.

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
            self._report(trainer, find_wrong_vectors(self.data, trainer.strategy.root_device))

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
        self.guard.check(trainer)  # for a training without evaluation

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        self._losses_unchecked = True
        if not torch.isfinite(student).all():  # the loss of the last step was a number, but not its gradient
            self.guard.stop_after_last_step(trainer, "a vector of the student is no number")
        student_spread = measure_spread(student[:DEV_QUERIES])
        teacher_spread = measure_spread(teacher[:DEV_QUERIES])
        module.log_dict({f"health/{name}": value for name, value in student_spread._asdict().items()}, batch_size=len(rows))
        self._report(trainer, find_collapse(student_spread, teacher_spread))
        self._report(trainer, find_norm_drift(student_spread, teacher_spread))

    def state_dict(self) -> dict[str, Any]:
        return {"told": sorted(self.faults.reported)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.faults.reported = set(state_dict["told"])

    def _report(self, trainer: Trainer, fault: Fault | None) -> None:
        if fault is not None:
            self.faults.report(trainer, fault)
