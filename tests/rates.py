"""A callback that notes the learning rate: in a file of its own, so that a configuration can name it."""

from __future__ import annotations

from typing import Any, ClassVar

from pytorch_lightning import Callback, LightningModule, Trainer


class Rates(Callback):
    """Keeps the learning rate that every step was made with."""

    seen: ClassVar[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])
