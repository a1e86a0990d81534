"""Writes the checkpoints of a run: the last one, to continue from, and the best one."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException

from distill.files.atomic import write_atomically
from distill.files.ranks import max_over_ranks
from distill.modules.start import read_checkpoint

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a scheduler's or a user's kill, the end of a terminal's session
BATCHES_BETWEEN_SIGNAL_CHECKS = 8  # to learn whether another rank got a signal, the ranks wait for each other


class Stopped(SIGTERMException):
    """Ends a training after a signal other than Ctrl-C, when its checkpoint is written."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = number


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint under a temporary name first, so that a kill leaves the old one or the new one whole.

    Lightning serialises it in memory first, and so a full disk is reported as such: torch's own file writer would report it as "iostream
    error" or "unexpected pos".
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with write_atomically(Path(path)) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` every `every_n_steps`, at the end of every epoch, and after Ctrl-C, SIGTERM or SIGHUP.

    As a `Checkpoint` it comes after all other callbacks, whose states of that step it keeps. Where dev is measured behind a batch, the
    checkpoint is written a batch later.

    A signal ends the training after the current batch, when every rank knows of it; a second Ctrl-C ends it at once. Under nohup,
    which ignores SIGHUP, it stays ignored. No checkpoint is
    written between the last batch of an epoch and the end of the epoch: a run that continued from there would skip the evaluation. A
    checkpoint is written as `.next.ckpt` and renamed to `last.ckpt` when the next batch begins, because only then metrics.jsonl has the
    lines of its step.

    Args:
        folder: folder of the checkpoints.
        every_n_steps: steps between two checkpoints.
    """

    def __init__(self, folder: Path, every_n_steps: int):
        self.path, self.next = folder / "last.ckpt", folder / ".next.ckpt"
        self.every_n_steps = every_n_steps
        self._saved_step, self._is_due = -1, False
        self._is_between_epochs = False  # whether the checkpoint to go on from was written at the end of an epoch
        self._signal_here = 0  # number of the signal that this rank got; 0 for none
        self._signal = 0  # number of the signal that ends the training on all ranks; 0 for none
        self._handlers: dict[signal.Signals, Any] = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Closes the epoch of a checkpoint that was written at its end: a trainer with `max_steps` would end it a second time."""
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        self._is_between_epochs = epochs["total"]["processed"] == epochs["total"]["started"]
        if self._is_between_epochs:
            for counts in epochs.values():
                counts["completed"] = counts["processed"]

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Installs the signal handlers, and converts the trainer's batch counts to batches of this run.

        The checkpoint may be of a run on another number of ranks, with larger or smaller global batches.
        """
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        loader: Any = trainer.train_dataloader
        if trainer.is_global_zero:
            self.next.unlink(missing_ok=True)  # of a process that was killed before it renamed it
        shift = loader.position - progress.current.processed
        for name in ("ready", "started", "processed", "completed"):
            setattr(progress.current, name, getattr(progress.current, name) + shift)
        if any(callback.wait_count >= callback.patience for callback in trainer.early_stopping_callbacks):
            trainer.should_stop = True  # as it was when the checkpoint was written
        if self._is_between_epochs:  # there is no epoch to go on with
            trainer.fit_loop._restarting = False
            trainer.fit_loop.epoch_loop.restarting = False
        if threading.current_thread() is threading.main_thread():
            # the trainer's own handlers wait for other ranks in the middle of a step, and hang
            signals = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in signals}
            # the trainer's ranks tell each other before every batch whether its own handlers got a signal, and wait for the GPU to do so
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _tell_nothing  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self._publish(trainer)
        if trainer.global_step == self._saved_step:
            self._raise_if_stopped()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.is_last_batch:
            return
        if trainer.world_size == 1 or batch_idx % BATCHES_BETWEEN_SIGNAL_CHECKS == 0:
            self._signal = max_over_ranks(self._signal_here, trainer.strategy.root_device)
        # with accumulated gradients a step has several batches
        step_ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._saved_step:
            self._is_due = True
        if step_ended and (self._is_due or self._signal) and not _precedes_evaluation(trainer, batch_idx):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signal = max_over_ranks(self._signal_here, trainer.strategy.root_device)
        self._save(trainer)
        self._publish(trainer)
        self._raise_if_stopped()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_signals()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_signals()

    def _ask_to_stop(self, number: int, _: Any) -> None:
        if self._signal_here == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal_here = number
        if number == signal.SIGHUP:
            _leave_closed_terminal()

    def _raise_if_stopped(self) -> None:
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signal:
            raise Stopped(self._signal)

    def _restore_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.next)
        self._saved_step, self._is_due = trainer.global_step, False

    def _publish(self, trainer: Trainer) -> None:
        """Renames `.next.ckpt` to `last.ckpt`."""
        if trainer.is_global_zero and self.next.exists() and trainer.global_step == self._saved_step:
            os.replace(self.next, self.path)


def _precedes_evaluation(trainer: Trainer, batch_idx: int) -> bool:
    """Whether dev is measured behind a batch within an epoch; a run that goes on from there would leave that out."""
    every: Any = trainer.val_check_batch  # None where the clock decides
    if not trainer.limit_val_batches or every in (None, float("inf")):
        return False
    is_by_epoch = trainer.check_val_every_n_epoch is not None
    batches = batch_idx if is_by_epoch else trainer.fit_loop.epoch_loop.total_batch_idx
    return bool((batches + 1) % every == 0)


def _tell_nothing() -> None:
    """Takes the place of what the ranks would tell each other, as `LastCheckpoint` does so every few batches."""


def _leave_closed_terminal() -> None:
    """Sends to nowhere what is printed to a terminal that is gone: an error of printing would end the training before it is saved."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


class BestCheckpoint(ModelCheckpoint):
    """Writes `best.ckpt`, the checkpoint of the epoch with the highest dev metric; the module names the metric in `best_by`.

    Args:
        folder: folder of the checkpoints.
    """

    def __init__(self, folder: Path):
        super().__init__(
            folder,
            filename="best",
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # it is written right after the evaluation, so that last.ckpt records the best value
        )

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes the best value so far from `best.ckpt`, unless that is newer: the last checkpoint may name a folder that was moved."""
        best = Path(str(self.dirpath)) / "best.ckpt"
        own = read_checkpoint(best) if best.exists() else None
        if own is None or own["global_step"] > checkpoint["global_step"] or self.state_key not in own["callbacks"]:
            return
        state, path = own["callbacks"][self.state_key], str(best)
        here = {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        checkpoint["callbacks"][self.state_key] = {**state, **here, "best_k_models": {path: state["best_model_score"]}}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.monitor = f"dev/{pl_module.best_by}"
        super().setup(trainer, pl_module, stage)
