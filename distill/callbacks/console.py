"""Logs one line when training begins and after every evaluation, with or without a progress bar."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from distill.files.progress import log

ABROAD = ("abroad_retention_ndcg@10", "abroad_overlap@10", "mean_retention_ndcg@10", "mean_overlap@10")  # a mean chooses the checkpoint
DEV_METRICS = ("ndcg@10", "retention_ndcg@10", "overlap@10", "cosine", *ABROAD, "log_likelihood")


class Console(Callback):
    """Logs epoch, step, loss, the main dev metrics and the time since training began."""

    def __init__(self) -> None:
        self._start_time = time.monotonic()

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start_time = time.monotonic()
        loader: Any = trainer.train_dataloader
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        removed = data.removed_from_train
        leaked = f"; {removed:,} queries left out, because another split has them too" if removed else ""
        steps = trainer.estimated_stepping_batches
        log.info(f"trains on {loader.epoch_size:,} {loader.examples} an epoch, {steps:,} steps, in {trainer.precision}{leaked}")

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        values = [f"{name} {float(metrics[f'dev/{name}']):.3f}" for name in DEV_METRICS if f"dev/{name}" in metrics]
        loss = float(metrics.get("train/loss", float("nan")))
        seconds = time.monotonic() - self._start_time
        step = f"{_describe_epoch(trainer)}, step {trainer.global_step:,}, {seconds:.0f} s"
        log.info(f"{step}: loss {loss:.4f}, dev {', '.join(values)}")


def _describe_epoch(trainer: Trainer) -> str:
    epoch = f"epoch {trainer.current_epoch + 1}"
    has_last_epoch = trainer.max_epochs and trainer.max_epochs > 0  # else max_steps ends the training
    return f"{epoch}/{trainer.max_epochs}" if has_last_epoch else epoch
