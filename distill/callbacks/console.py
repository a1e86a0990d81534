"""One line on the terminal after every evaluation, with or without a progress bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

SHOWN = ("ndcg@10", "retention_ndcg@10", "overlap@10", "cosine", "log_likelihood")


class Console(Callback):
    """Prints epoch, step, loss, the main dev metrics and the time since training began."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._values: dict[str, list[float]] = {}

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        loader: Any = trainer.train_dataloader
        drawn = sum(count for _, count in loader.drawn)
        steps = trainer.estimated_stepping_batches
        left_out = trainer.datamodule.removed_from_train  # type: ignore[attr-defined]
        leaked = f"; {left_out:,} queries left out, which another split asks too" if left_out else ""
        print(f"trains on {drawn:,} {loader.what} an epoch, {steps:,} steps, in {trainer.precision}{leaked}", flush=True)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A table of the evaluations' last and best values, where somebody looks."""
        if not sys.stdout.isatty() or not self._values:
            return
        from rich.console import Console as Terminal
        from rich.table import Table

        table = Table("dev", "last", "best")
        for name, values in self._values.items():
            table.add_row(name, f"{values[-1]:.4f}", f"{max(values):.4f}")
        Terminal().print(table)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        values = [f"{name} {float(metrics['dev/' + name]):.3f}" for name in SHOWN if "dev/" + name in metrics]
        for name in (name for name in SHOWN if "dev/" + name in metrics):
            self._values.setdefault(name, []).append(float(metrics["dev/" + name]))
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""  # max_steps may be the end
        epoch = f"epoch {trainer.current_epoch + 1}{of}"
        seconds = time.monotonic() - self._started
        loss = float(metrics.get("train/loss", float("nan")))
        print(f"{epoch}, step {trainer.global_step:,}, {seconds:.0f} s: loss {loss:.4f}, dev " + ", ".join(values), flush=True)
