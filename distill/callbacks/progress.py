"""The progress bar on a terminal: speed, time left, every loss term, and the student's retention at the last evaluation."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

DEV_METRICS = ("dev/retention_ndcg@10", "dev/overlap@10")


class Progress(RichProgressBar):
    """Lightning's progress bar, with the loss terms and the main dev metrics.

    On a GPU it reads them every `log_every_n_steps` of the trainer: to read a number is to wait for the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[str, Any] = {}

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        is_due = trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if is_due or not self._shown or pl_module.device.type == "cpu":
            self._shown = self._read_metrics(trainer, pl_module)
        return self._shown

    def _read_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
        metrics = trainer.callback_metrics
        names = [name for name in metrics if name.startswith("train/")]
        names += [name for name in DEV_METRICS if name in metrics]
        return shown | {name: f"{float(metrics[name]):.3f}" for name in names}
