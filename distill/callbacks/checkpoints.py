"""Checkpoints of a run: the last, to go on from, and the best, to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException

from distill.artefacts import written_atomically


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name first: a kill leaves the old one or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with written_atomically(Path(path)) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


class LastCheckpoint(Callback):
    """`last.ckpt` every `every_n_steps`, at the end of every epoch, and when training is told to stop."""

    def __init__(self, folder: Path, every_n_steps: int):
        self.path = folder / "last.ckpt"
        self.every_n_steps = every_n_steps
        self._saved_step = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # with accumulated gradients several batches end on one step
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._saved_step:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # only where every rank stops with us: saving waits for all of them
        if isinstance(exception, KeyboardInterrupt | SIGTERMException) and trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_step = trainer.global_step


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: the highest share of the teacher's top 10 found on dev. It needs no labels, and few judged queries are noisy."""

    def __init__(self, folder: Path):
        super().__init__(folder, filename="best", monitor="dev/overlap@10", mode="max", enable_version_counter=False)
