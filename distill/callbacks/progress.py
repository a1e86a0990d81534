"""The bar on a terminal: rate, time left, every loss term, and what the student kept at the last evaluation."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

KEPT = ("dev/retention_ndcg@10", "dev/overlap@10")


class Progress(RichProgressBar):
    """Lightning's bar with more on it."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        metrics = trainer.callback_metrics
        shown |= {name: f"{float(value):.3f}" for name, value in metrics.items() if name.startswith("train/")}
        return shown | {name: f"{float(metrics[name]):.3f}" for name in KEPT if name in metrics}
