"""Stops the training of a teacher whose loss or whose figures on dev are no numbers."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from distill.callbacks.loss_guard import REMEDY, STEPS_BETWEEN_CHECKS
from distill.files.ranks import leave_rank, max_over_ranks
from distill.records import BadInput


class FiniteLoss(Callback):
    """Ends all ranks where the loss of one is no number: after every step on one CPU process, else after every 20, and before dev."""

    def __init__(self) -> None:
        self._bad: list[Tensor] = []  # of each step since the last check, whether its loss is no number; still on the device

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._bad.append(~torch.isfinite(outputs["loss"].detach()))
        is_cheap = self._bad[0].device.type == "cpu" and trainer.world_size == 1
        if is_cheap or len(self._bad) >= STEPS_BETWEEN_CHECKS:
            self.check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.check(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, value in trainer.callback_metrics.items():  # the same on all ranks
            if name.startswith("dev/") and not math.isfinite(float(value)):
                stop_all_ranks(trainer, f"{name} is {float(value)}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.check(trainer)  # for a training without evaluation

    def check(self, trainer: Trainer) -> None:
        """Stops every rank where the loss of any was no number since the last check."""
        bad, self._bad = self._bad, []
        if bad and max_over_ranks(int(torch.stack(bad).any()), bad[0].device):
            stop_all_ranks(trainer, "the loss is no number")


def stop_all_ranks(trainer: Trainer, reason: str) -> NoReturn:
    """Ends all ranks, each of which must call it; the first one reports the reason."""
    if not trainer.is_global_zero:
        leave_rank()  # without an error: a launcher that sees one kills the first rank before it reports the reason
    raise BadInput(f"step {trainer.global_step}: {reason}: {REMEDY}")
