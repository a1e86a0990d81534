"""One line on the terminal after every evaluation, with or without a progress bar."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

SHOWN = ("ndcg@10", "retention_ndcg@10", "overlap@10", "cosine", "log_likelihood")


class Console(Callback):
    """Prints epoch, step, loss, the main dev metrics and the time since training began."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        loader: Any = trainer.train_dataloader
        drawn = sum(count for _, count in loader.drawn)
        steps = trainer.estimated_stepping_batches
        print(f"trains on {drawn:,} {loader.what} an epoch, {steps:,} steps, in {trainer.precision}", flush=True)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        values = [f"{name} {float(metrics['dev/' + name]):.3f}" for name in SHOWN if "dev/" + name in metrics]
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        seconds = time.monotonic() - self._started
        loss = float(metrics.get("train/loss", float("nan")))
        print(f"{epoch}, step {trainer.global_step:,}, {seconds:.0f} s: loss {loss:.4f}, dev " + ", ".join(values), flush=True)
