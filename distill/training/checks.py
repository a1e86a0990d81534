"""Checks of a training before the first change of its run folder: what Lightning would refuse only when it has the batches."""

from __future__ import annotations

import math
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Timer

from distill.data.base import SplitDataModule
from distill.modules.schedule import ScheduledModule
from distill.records import BadInput
from distill.training.monitors import check_monitors


def check_length(trainer: Trainer) -> None:
    """Refuses a training without an end or without a step."""
    if trainer.max_steps == -1 and trainer.max_epochs in (None, -1):
        raise BadInput("trainer.max_epochs: a schedule needs an end: set max_epochs or max_steps")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and callback.time_remaining() == 0:
            raise BadInput("trainer.max_time: trains no step: set a time above 0")


def check_loop(trainer: Trainer, module: ScheduledModule, data: SplitDataModule) -> int:
    """Refuses limits and intervals that do not fit the number of batches, and callbacks that watch what is not logged.

    Args:
        trainer: the trainer with all its callbacks.
        module: the module, connected to the data.
        data: the data, after its `setup`.

    Returns:
        The number of steps from the first to the last.
    """
    data.trainer = trainer  # its loaders divide the queries among the trainer's ranks
    limits: Any = trainer
    batches = _limit("limit_train_batches", limits.limit_train_batches, len(data.train_dataloader()))
    dev_batches = _limit("limit_val_batches", limits.limit_val_batches, len(data.val_dataloader()))
    interval = getattr(trainer, "val_check_interval", None)  # without one where dev is evaluated by the clock
    counts_in_epoch = limits.check_val_every_n_epoch is not None
    if isinstance(interval, int) and interval > batches and counts_in_epoch and dev_batches:
        fix = f"set {batches} or less, or check_val_every_n_epoch to null, which counts over epochs"
        raise BadInput(f"trainer.val_check_interval: {interval}: an epoch has {batches} batches: {fix}")
    check_monitors(trainer, module, data)
    steps = [trainer.max_steps] if trainer.max_steps != -1 else []
    if trainer.max_epochs not in (None, -1):
        steps.append(math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs)
    return min(steps)


def _limit(name: str, limit: int | float, batches: int) -> int:
    """The number of batches within a limit, which is a number of them or a share."""
    if isinstance(limit, int):
        return min(limit, batches)
    if limit and int(limit * batches) < 1:
        raise BadInput(f"trainer.{name}: {limit}: of {batches} batches that is none: set 1 or more, or a share from {1 / batches:.3g}")
    return int(limit * batches)
