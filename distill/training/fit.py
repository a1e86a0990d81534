"""Steps that the trainings of students and teachers share: find and check a checkpoint, track the run, fit, load the best weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.spike import TrainingSpikeException
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import OnExceptionCheckpoint, WeightAveraging
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from distill.callbacks.checkpoints import Stopped
from distill.callbacks.run_log import RunLog, write_csv
from distill.callbacks.tracking import Tracking, make_tracker, wandb_runs
from distill.files.device import fp32_products, used_memory
from distill.files.progress import log
from distill.modules.start import describe_misfit, read_checkpoint
from distill.records import BadInput, one_line
from distill.training.run_folder import RunFolder
from distill.vectors.resident import keep_corpora


@keep_corpora()
def fit_to_end(trainer: Trainer, module: LightningModule, data: LightningDataModule, checkpoint: str | None) -> None:
    """Trains to the end; a signal ends the process with its own exit code. On a GPU, evaluations on the way share one copy of the corpus.

    Raises:
        BadInput: Lightning refuses the configuration, a callback of its ends the training with an error, or a batch does not fit into the
            memory of the GPU.
    """
    try:
        with fp32_products(trainer.strategy.root_device):  # the products that mixed precision does not compute in bf16 are exact
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # the trainer raises it after a signal
        if trainer.is_global_zero:
            own = RunFolder(Path(trainer.default_root_dir)).last_checkpoint
            begins_again = checkpoint is not None and Path(checkpoint).resolve() != own.resolve()
            command = "the same command without --ckpt_path" if begins_again else "the same command"
            log.info(f"stopped at step {trainer.global_step}: {command} goes on")
        if isinstance(end, Stopped):
            raise SystemExit(128 + end.signal) from None
        raise KeyboardInterrupt from None
    except MisconfigurationException as error:
        raise BadInput(f"trainer: {one_line(error, 1000)}") from error
    except torch.OutOfMemoryError:
        raise BadInput(describe_out_of_memory(trainer, data)) from None
    except TrainingSpikeException as error:
        fix = "lower model.learning_rate, or set mod_factor of the callback"
        raise BadInput(f"trainer.callbacks: SpikeDetection: step {trainer.global_step}: {one_line(error)}: {fix}") from None


def describe_out_of_memory(trainer: Trainer, data: Any) -> str:
    """Says what a GPU had no room for, what to change, and how to go on."""
    device, last = trainer.strategy.root_device, RunFolder(Path(trainer.default_root_dir)).last_checkpoint
    peak = used_memory(device)
    used = "" if peak is None else f", of which {peak / 2**30:.1f} GiB were in use"
    batches = 2 * trainer.accumulate_grad_batches
    fix = f"halve data.batch_size, {data.batch_size}, and set trainer.accumulate_grad_batches to {batches}"
    if last.exists():  # another batch is another run
        fix += f", with another --out, where --ckpt_path {last} goes on"
    return f"step {trainer.global_step}: a batch does not fit into the memory of {device}{used}: {fix}"


@contextmanager
def track_run(trainer: Trainer, module: LightningModule, run: RunFolder, config: dict[str, Any], step: int) -> Iterator[None]:
    """Adds the tracker that config.tracking names, on the first rank, and logs the run's configuration and inputs to it."""
    kind: Tracking = config["tracking"] if trainer.is_global_zero else "none"
    if kind != "none":
        record = run.record()
        tracker = make_tracker(kind, run.path, record["provenance"], step)
        if tracker is not None:
            trainer.loggers = [*trainer.loggers, tracker]
            parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
            weights = {name: loss.weight for name, loss in getattr(module, "losses", {}).items()}
            tracker.log_hyperparams({**config, **record, "parameters": parameters, "loss_weights": weights})
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        for wandb_run in wandb_runs(trainer.loggers):
            wandb_run.finish(exit_code=exit_code)  # else wandb would add a later run of this process to this one
        if kind == "csv":
            write_csv(run.metrics, run.path / "metrics.csv")


def claim_on_first_rank(
    trainer: Trainer, run: RunFolder, config: dict[str, Any], fingerprints: dict[str, dict[str, str]], removed_from_train: int
) -> AbstractContextManager[Any]:
    """The lock of `RunFolder.claim` on the first rank; the others write nothing and lock nothing."""
    if not trainer.is_global_zero:
        return nullcontext()
    return run.claim(config, str(trainer.precision), fingerprints, removed_from_train)


def find_checkpoint(run: RunFolder, ckpt_path: str | None) -> str | None:
    """Returns the checkpoint to continue from: `ckpt_path`, else the run's last one; None for a new run."""
    if ckpt_path:
        return ckpt_path
    return str(run.last_checkpoint) if run.last_checkpoint.exists() else None


def check_checkpoint(path: str | None, module: LightningModule, trainer: Trainer, run: RunFolder, steps: int) -> None:
    """Refuses a checkpoint that a training cannot go on from: of other weights, of weights alone, or with nothing left to train.

    Args:
        path: the checkpoint; None for a new run.
        module: the module, with all its weights.
        trainer: the trainer with all its callbacks.
        run: the run to continue; its own last checkpoint may be at the end.
        steps: the steps of the whole training.
    """
    if path is None:
        _refuse_other_start(trainer)
        return
    checkpoint = read_checkpoint(path)
    missing = [key for key in ("optimizer_states", "lr_schedulers", "loops") if key not in checkpoint]
    if missing:
        raise BadInput(f"{path}: has weights alone, no {missing[0]} to go on with: name it in model.start_from, to begin from its weights")
    averages = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if "averaging_state" in checkpoint and not averages:
        raise BadInput(f"{path}: its weights are averages, of a callback that averages them: name that callback in trainer.callbacks again")
    misfit = describe_misfit(module, checkpoint["state_dict"])
    if misfit:
        raise BadInput(f"{path}: {misfit}: name a checkpoint of this model")
    if run.last_checkpoint.exists() and run.last_checkpoint.samefile(path):
        return
    done = checkpoint["global_step"]
    if done >= steps:  # the learning rate would be 0 from here on
        raise BadInput(f"{path}: has done {done} steps, and this training has {steps}: nothing is left to learn: raise trainer.max_epochs")


def _refuse_other_start(trainer: Trainer) -> None:
    """Refuses a checkpoint from which Lightning would begin a new run without a word."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, OnExceptionCheckpoint) and os.path.exists(callback.ckpt_path):
            reason = "a run that begins anew would begin from it"
            raise BadInput(f"{callback.ckpt_path}: left by OnExceptionCheckpoint: {reason}: name it in --ckpt_path, or delete it")
    for path in sorted(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")):
        raise BadInput(f"{path}: left by Lightning at a signal of SLURM: a run that begins anew would begin from it: delete it")


def rewind_logs(checkpoint: str | None, trainer: Trainer) -> int:
    """Removes the lines after the checkpoint from the logs, or all lines without a checkpoint; returns the step to continue from."""
    step = read_checkpoint(checkpoint)["global_step"] if checkpoint else 0
    if checkpoint and trainer.is_global_zero:
        log.info(f"continues from {checkpoint} at step {step}, with the configuration given now")
    for logger in trainer.loggers:
        if isinstance(logger, RunLog):
            logger.rewind(step)
    return step


def load_best_weights(trainer: Trainer, module: LightningModule, run: RunFolder) -> str:
    """Loads the weights that were best on dev, or the last ones if dev was never evaluated; returns their description for a message."""
    _warn_of_late_changes(trainer, module, run)
    evaluated = run.best_checkpoint.exists()
    checkpoint = read_checkpoint(run.best_checkpoint if evaluated else run.last_checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    reason = f"the best on dev by {module.best_by}" if evaluated else "the last: dev was never evaluated"
    return f"step {checkpoint['global_step']}, {reason}"


def _warn_of_late_changes(trainer: Trainer, module: LightningModule, run: RunFolder) -> None:
    """Warns where a callback changed the weights after the last checkpoint, as some that average weights do: the change is lost."""
    callbacks = [callback for callback in trainer.callbacks if not type(callback).__module__.startswith("distill.")]  # type: ignore[attr-defined]
    if not callbacks or not run.last_checkpoint.exists():
        return
    last, now = read_checkpoint(run.last_checkpoint)["state_dict"], module.state_dict()
    if any(name not in last or not torch.equal(weight.cpu(), last[name]) for name, weight in now.items()):
        names = ", ".join(type(callback).__name__ for callback in callbacks)
        log.warning(f"trainer.callbacks: one of {names} changed the weights after the last checkpoint: that is not in the result")
