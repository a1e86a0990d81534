"""What the trainings of students and teachers share: to the end or to a signal, with a tracker, from a checkpoint, to the best weights."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from distill.callbacks.run_log import RunLog, write_csv
from distill.callbacks.tracking import Tracking, make_tracker, wandb_runs
from distill.files.device import fp32_products
from distill.files.progress import log
from distill.modules.start import read_checkpoint
from distill.training.run_folder import RunFolder


def fit_to_end(trainer: Trainer, module: LightningModule, data: LightningDataModule, checkpoint: str | None) -> None:
    """Trains to the end; a signal ends the process with its own exit code."""
    try:
        with fp32_products(trainer.strategy.root_device):  # those that mixed precision leaves, or all of them
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # how the trainer leaves after a signal
        if end.code == 0:
            raise  # this rank leaves it to the first one to say why
        log.info(f"stopped at step {trainer.global_step}: the same command goes on")
        if isinstance(end, SIGTERMException):
            raise SystemExit(128 + signal.SIGTERM) from None
        raise KeyboardInterrupt from None


@contextmanager
def track_run(trainer: Trainer, module: LightningModule, run: RunFolder, config: dict[str, Any], step: int) -> Iterator[None]:
    """Adds the tracker that config.tracking names, now that the folder is the run's, and tells it what the run is made from."""
    kind: Tracking = config["tracking"] if trainer.is_global_zero else "none"
    tracker = make_tracker(kind, run.path, run.record()["provenance"] if trainer.is_global_zero else None, step)
    if tracker is not None:
        trainer.loggers = [*trainer.loggers, tracker]
        parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
        weights = {name: loss.weight for name, loss in getattr(module, "losses", {}).items()}
        tracker.log_hyperparams({**config, **run.record(), "parameters": parameters, "loss_weights": weights})
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        for wandb_run in wandb_runs(trainer.loggers):
            wandb_run.finish(exit_code=exit_code)  # or a later run of this process would be taken for the same
        if kind == "csv":
            write_csv(run.metrics, run.path / "metrics.csv")


def find_checkpoint(run: RunFolder, ckpt_path: str | None) -> str | None:
    """The checkpoint to go on from: the one given, else the run's last; None for a run that begins."""
    if ckpt_path:
        return ckpt_path
    return str(run.last_checkpoint) if run.last_checkpoint.exists() else None


def rewind_logs(checkpoint: str | None, trainer: Trainer) -> int:
    """Removes from the logs what came after the checkpoint, or all of a run that was killed before its first; returns its step."""
    step = read_checkpoint(checkpoint)["global_step"] if checkpoint else 0
    if checkpoint:
        log.info(f"continues from {checkpoint} at step {step}, with the configuration given now")
    for logger in trainer.loggers:
        if isinstance(logger, RunLog):
            logger.rewind(step)
    return step


def load_best_weights(module: LightningModule, run: RunFolder) -> str:
    """Loads the weights that were best on dev, or the last where dev was never evaluated; returns which they are, for a message."""
    evaluated = run.best_checkpoint.exists()
    checkpoint = read_checkpoint(run.best_checkpoint if evaluated else run.last_checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    reason = f"the best on dev by {module.best_by}" if evaluated else "the last: dev was never evaluated"
    return f"step {checkpoint['global_step']}, {reason}"
