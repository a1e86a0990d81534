"""Checkpoints of a run: the last, to go on from, and the best, to keep."""

from __future__ import annotations

import signal
import threading
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
    """`last.ckpt` every `every_n_steps`, at the end of every epoch, and when training is told to stop.

    Ctrl-C waits for the batch to end, as half a step is nothing to go on from. No checkpoint is written between an epoch's last batch
    and its end: going on from there would leave out the epoch's evaluation.
    """

    def __init__(self, folder: Path, every_n_steps: int):
        self.path = folder / "last.ckpt"
        self.every_n_steps = every_n_steps
        self._saved_step = 0
        self._stop_asked = False
        self._handler: Any = None

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Counts what is done of the epoch in batches of now: a checkpoint of another number of ranks has larger or smaller ones."""
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        loader: Any = trainer.train_dataloader
        shift = loader.position - progress.current.processed
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress.current, name, getattr(progress.current, name) + shift)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self._saved_step:
            self._stop_if_asked()  # not sooner: the batch before is in metrics.jsonl now
        # ranks would have to agree first; they fall back on the last checkpoint written
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._ask_to_stop)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._give_signal_back()
        if trainer.is_last_batch:
            return
        # with accumulated gradients several batches end on one step
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        due = trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._saved_step
        if between_steps and (due or self._stop_asked):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        self._stop_if_asked()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._give_signal_back()
        # only where every rank stops with us: saving waits for all of them
        told_to = isinstance(exception, SIGTERMException) or (isinstance(exception, KeyboardInterrupt) and trainer.world_size == 1)
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        batches = progress.current.processed
        if told_to and trainer.global_step > self._saved_step and batches < trainer.num_training_batches:
            self._save(trainer)

    def _ask_to_stop(self, *_: Any) -> None:
        self._stop_asked = True

    def _stop_if_asked(self) -> None:
        if self._stop_asked:
            raise KeyboardInterrupt

    def _give_signal_back(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_step = trainer.global_step


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: of the epoch that is highest in one dev metric."""

    def __init__(self, folder: Path, metric: str):
        super().__init__(
            folder,
            filename="best",
            monitor=f"dev/{metric}",
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # right after the evaluation, so that last.ckpt knows what the best is
        )
