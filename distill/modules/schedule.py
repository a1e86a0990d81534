"""What every training shares: AdamW whose learning rate rises, then falls linearly to 0."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule

from distill.records import BadInput


class ScheduledModule(LightningModule):
    """A LightningModule with the learning rate's schedule; a subclass says what it optimises and how."""

    def __init__(self, learning_rate: float, warmup: float):
        super().__init__()
        if learning_rate <= 0 or not 0 <= warmup < 1:
            raise BadInput(f"model: learning_rate {learning_rate} must be above 0, warmup {warmup} a share of the steps, 0 to below 1")
        self.learning_rate = learning_rate
        self.warmup = warmup

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer over everything that learns."""
        raise NotImplementedError

    def on_train_start(self) -> None:
        """The learning rate and its schedule as configured now win over those a checkpoint brings."""
        scheduler: Any = self.lr_schedulers()
        groups, schedule = scheduler.optimizer.param_groups, self._schedule()
        scheduler.base_lrs, scheduler.lr_lambdas = [self.learning_rate] * len(groups), [schedule] * len(groups)
        for group in groups:
            group["initial_lr"], group["lr"] = self.learning_rate, self.learning_rate * schedule(scheduler.last_epoch)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _schedule(self) -> WarmupThenDecay:
        total = int(self.trainer.estimated_stepping_batches)
        return WarmupThenDecay(int(self.warmup * total), total)


class WarmupThenDecay:
    """Factor of the learning rate at a step: linear from 0 to 1, then linear to 0 at the last step."""

    def __init__(self, warmup_steps: int, total_steps: int):
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps))
