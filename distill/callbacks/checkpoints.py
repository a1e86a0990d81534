"""Checkpoints of a run: the last, to go on from, and the best, to keep."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException

from distill.files.atomic import write_atomically
from distill.files.ranks import max_over_ranks

BATCHES_BETWEEN_TALKS = 8  # ranks that ask each other whether to stop wait for each other


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name first: a kill leaves the old one or the new one.

    By way of memory, as Lightning does it: of a full disk torch's own writer says "iostream error" or "unexpected pos".
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with write_atomically(Path(path)) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


class LastCheckpoint(Callback):
    """`last.ckpt` every `every_n_steps`, at the end of every epoch, and when training is told to stop.

    Ctrl-C and SIGTERM wait for the batch to end, as half a step is nothing to go on from, and until every rank knows; a second Ctrl-C
    does not. No checkpoint is written between an epoch's last batch and its end: going on from there would leave out the epoch's
    evaluation. One takes its name when the next batch begins: only then is what it knows in metrics.jsonl too.
    """

    def __init__(self, folder: Path, every_n_steps: int):
        self.path, self.next = folder / "last.ckpt", folder / ".next.ckpt"
        self.every_n_steps = every_n_steps
        self._saved_step = -1
        self._requested = 0  # the signal this rank was sent
        self._stop = 0  # the signal that ends the training of all ranks
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Counts what is done of the epoch in batches of now: a checkpoint of another number of ranks has larger or smaller ones."""
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        loader: Any = trainer.train_dataloader
        shift = loader.position - progress.current.processed
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress.current, name, getattr(progress.current, name) + shift)
        if threading.current_thread() is threading.main_thread():
            # the trainer's own handlers talk to other ranks in the middle of whatever they are doing, and hang
            self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self._publish(trainer)
        if trainer.global_step == self._saved_step:
            self._stop_if_told()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_last_batch:
            return
        if trainer.world_size == 1 or batch_idx % BATCHES_BETWEEN_TALKS == 0:
            self._stop = max_over_ranks(self._requested, trainer.strategy.root_device)
        # with accumulated gradients several batches end on one step
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        due = trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._saved_step
        if between_steps and (due or self._stop):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop = max_over_ranks(self._requested, trainer.strategy.root_device)
        self._save(trainer)
        self._publish(trainer)
        self._stop_if_told()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._give_signals_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._give_signals_back()

    def _ask_to_stop(self, number: int, _: Any) -> None:
        if self._requested == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._requested = number

    def _stop_if_told(self) -> None:
        if self._stop:
            raise SIGTERMException if self._stop == signal.SIGTERM else KeyboardInterrupt

    def _give_signals_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.next)
        self._saved_step = trainer.global_step

    def _publish(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.next.exists() and trainer.global_step == self._saved_step:
            os.replace(self.next, self.path)


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: of the epoch that is highest in the dev metric which the module names, `best_by`."""

    def __init__(self, folder: Path):
        super().__init__(
            folder,
            filename="best",
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # right after the evaluation, so that last.ckpt knows what the best is
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.monitor = f"dev/{pl_module.best_by}"
        super().setup(trainer, pl_module, stage)
