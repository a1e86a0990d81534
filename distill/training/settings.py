"""The settings of Lightning's trainer that every training uses."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ProgressBar, WeightAveraging
from pytorch_lightning.strategies import DDPStrategy, StrategyRegistry

from distill.callbacks.checkpoints import AtomicCheckpoints, BestCheckpoint, LastCheckpoint
from distill.callbacks.console import Console
from distill.callbacks.examples import Examples
from distill.callbacks.finite_loss import FiniteLoss
from distill.callbacks.health import Health
from distill.callbacks.meter import Meter
from distill.callbacks.progress import Progress
from distill.callbacks.retrieval_eval import RetrievalEval
from distill.callbacks.run_log import RunLog
from distill.callbacks.theory import Theory
from distill.files.device import best_device, has_fast_bf16
from distill.files.driver import describe_idle_gpu
from distill.files.progress import log
from distill.records import BadInput
from distill.training.monitors import WatchedNames
from distill.training.run_folder import RunFolder
from distill.training.trainer_options import as_list, refuse_options

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # our loaders divide the queries among ranks themselves
    "enable_progress_bar": sys.stderr.isatty(),  # only on a terminal
}
CHECKPOINT_EVERY_N_STEPS = 500
# warnings of Lightning about deliberate choices
EXPECTED_WARNINGS = (
    ".*in eval mode at the start of training.*",
    ".*does not have many workers.*",
    ".*Checkpoint directory.*exists.*",
    ".*treespec, LeafSpec.*is deprecated.*",
    ".*is smaller than the logging interval.*",
    ".*dirpath has changed from.*",
    ".*`broadcast_buffers` is deprecated.*",  # False, as it advises, is what we set
    ".*sync_dist=True.*",  # what is logged of dev is computed of all ranks already
)


def make_trainer_settings(out: Path, trainer: Any, checkpoint_every_n_steps: int, evaluation: Callback) -> dict[str, Any]:
    """Makes the trainer options that every run sets: folder, device, callbacks, loggers, plugins, number format.

    Args:
        out: the run folder.
        trainer: the user's options by name.
        checkpoint_every_n_steps: steps between two versions of last.ckpt.
        evaluation: the callback that evaluates on dev.
    """
    refuse_options(trainer)
    spare_ddp_copies()
    run = RunFolder(out)
    if checkpoint_every_n_steps < 1:
        raise BadInput(f"checkpoint_every_n_steps: {checkpoint_every_n_steps}: must be at least 1")
    if trainer["accelerator"] in ("mps", "tpu"):
        raise BadInput(f"trainer.accelerator: {trainer['accelerator']}: only cpu and NVIDIA's gpu are supported: set cpu")
    if str(trainer["precision"]) in ("bf16-true", "16-true", "64-true", "64"):
        raise BadInput(f"trainer.precision: {trainer['precision']}: weights stay in fp32: set bf16-mixed or 32-true")
    accelerator = trainer["accelerator"] if trainer["accelerator"] != "auto" else best_device().type
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise BadInput(f"trainer.accelerator: {accelerator}: {describe_idle_gpu() or 'PyTorch finds no NVIDIA GPU here: set cpu'}")
    checkpoints = [BestCheckpoint(run.checkpoints), LastCheckpoint(run.checkpoints, checkpoint_every_n_steps)]
    given = as_list(trainer["callbacks"])
    has_bar = any(isinstance(callback, ProgressBar) for callback in given)
    bar = [Progress()] if trainer["enable_progress_bar"] and not has_bar else []
    averages = [callback for callback in given if isinstance(callback, WeightAveraging)]  # take averages away when dev was measured
    others = [callback for callback in given if not isinstance(callback, WeightAveraging)]
    loggers = [logger for logger in as_list(trainer["logger"]) if not isinstance(logger, bool)]
    return {
        "default_root_dir": out,
        "accelerator": accelerator,
        "callbacks": [*others, *list_watchers(evaluation, out), *averages, *checkpoints, WatchedNames(), Console(), *bar],
        "logger": [RunLog(run.metrics), *loggers],
        "plugins": [*as_list(trainer["plugins"]), AtomicCheckpoints()],
        "precision": trainer["precision"] or default_precision(accelerator),
    }


def spare_ddp_copies() -> None:
    """Sets what Lightning's `ddp` does from now on, which it also chooses for several devices.

    Gradients are kept in the buffers that are sent, which spares a copy of all of them. Buffers of a model, such as numbers of positions,
    never change: they are not sent before each step.
    """
    options: dict[str, Any] = {"start_method": "popen", "broadcast_buffers": False, "gradient_as_bucket_view": True}
    StrategyRegistry.register("ddp", DDPStrategy, override=True, **options)


def default_precision(accelerator: str) -> str:
    """Returns bf16-mixed for a device that multiplies bf16 natively, else 32-true; the record of a run has it.

    A GPU without bf16 (V100, T4) could multiply fp16: faster, but what leaves its narrow range is lost, so that has to be asked for.
    """
    device_type = "cpu" if accelerator == "cpu" else "cuda"
    if has_fast_bf16(device_type):
        return "bf16-mixed"
    if device_type == "cuda":
        log.info("this GPU has no bf16: it trains in fp32; --trainer.precision 16-mixed is faster, and less exact")
    return "32-true"


def list_watchers(evaluation: Callback, out: Path) -> list[Callback]:
    """Lists the callbacks that measure a model in training; those that compare with a teacher are only for a student."""
    if not isinstance(evaluation, RetrievalEval):
        return [FiniteLoss(), evaluation]
    # health comes first: it stops the training at vectors with NaN, which the evaluation cannot search with
    return [Health(out), evaluation, Theory(), Meter(), Examples(evaluation)]


def quiet_lightning() -> None:
    """Hides Lightning's messages about itself and its warnings about deliberate choices."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
