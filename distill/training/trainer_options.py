"""The options and callbacks of Lightning's trainer that a training refuses, because they would not do here what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    StochasticWeightAveraging,
)
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from distill.files.progress import log
from distill.records import BadInput, one_line

EMA = "pytorch_lightning.callbacks.EMAWeightAveraging"
# What Lightning raises for settings that it cannot honour, and for packages that are not installed.
TRAINER_ERRORS = (ValueError, TypeError, ImportError, RuntimeError, MisconfigurationException)

# option: whether a value of it is refused, and why
REFUSED_OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "fast_dev_run": (bool, "leaves no model: use --trainer.limit_train_batches for a short run"),
    "barebones": (bool, "logs nothing and writes no checkpoint, which a run needs: leave it out"),
    "enable_checkpointing": (lambda value: value is False, "a run is made of its checkpoints: leave it out"),
    "overfit_batches": (bool, "every epoch draws other batches: make a split of few queries for data.train"),
    "max_epochs": (lambda value: value == 0, "trains no step: set 1 or more"),
    "max_steps": (lambda value: value == 0, "trains no step: set 1 or more"),
    "limit_train_batches": (lambda value: value is not None and value <= 0, "trains no step: set a number of batches, or a share above 0"),
    "val_check_interval": (lambda value: value == 0, "must be above 0: to leave dev out set limit_val_batches to 0"),
    "check_val_every_n_epoch": (
        lambda value: value is not None and value < 1,
        "must be at least 1: to leave dev out set limit_val_batches to 0",
    ),
    "log_every_n_steps": (lambda value: value is not None and value < 1, "must be at least 1"),
    "accumulate_grad_batches": (lambda value: value < 1, "must be at least 1"),
    "gradient_clip_val": (lambda value: isinstance(value, int | float) and value < 0, "must be above 0"),
}

# class of a callback: why it is refused
REFUSED_CALLBACKS: dict[type, str] = {
    StochasticWeightAveraging: f"the student is the best or the last checkpoint, which does not have its average: use {EMA}",
    LearningRateFinder: "the rate that it finds is not in config.yaml: try rates with distill sweep conf/sweep/learning_rate.yaml",
    BatchSizeFinder: "the size of a batch decides what is learnt, and config.yaml would not have it: set data.batch_size",
    ModelPruning: "prunes after dev is measured, so that the best student is not what was measured: set model.student.layers",
    GradientAccumulationScheduler: "the schedule and the steps of a resumed run need one number: set trainer.accumulate_grad_batches",
    BackboneFinetuning: "makes its own groups of weights, which the schedule does not know: derive a callback from BaseFinetuning",
}

# class of a plugin: why it is refused
REFUSED_PLUGINS: dict[type, str] = {
    Precision: "set trainer.precision",
    CheckpointIO: "checkpoints are written here so that a kill leaves them whole: leave it out",
}

# option: its default, and why another value changes nothing here
IDLE_OPTIONS: dict[str, tuple[tuple[Any, ...], str]] = {
    "default_root_dir": ((None,), "--out is the folder"),
    "logger": ((None, False), "metrics.jsonl is always written; --tracking names others"),
    "limit_test_batches": ((None,), "distill evaluate reads the whole split"),
    "limit_predict_batches": ((None,), "a training predicts nothing"),
    "use_distributed_sampler": ((False,), "the loaders divide the queries among the ranks themselves"),
    "reload_dataloaders_every_n_epochs": ((0,), "every epoch has an order of its own"),
    "sync_batchnorm": ((False,), "no model here has batch normalisation"),
    "enable_autolog_hparams": ((True,), "config.yaml has the settings"),
    "model_registry": ((None,), "a run is kept in its folder"),
}


def refuse_options(trainer: Any) -> None:
    """Refuses options and callbacks that would not do here what they say, and logs those that would do nothing.

    Args:
        trainer: a mapping of options of Lightning's trainer, as the user gave them.

    >>> refuse_options({"overfit_batches": 2})
    Traceback (most recent call last):
    distill.records.BadInput: trainer.overfit_batches: 2: every epoch draws other batches: make a split of few queries for data.train
    """
    for name, (is_refused, reason) in REFUSED_OPTIONS.items():
        if name in trainer and is_refused(trainer[name]):
            raise BadInput(f"trainer.{name}: {_plain(trainer[name])}: {reason}")
    _refuse_objects(trainer, "callbacks", REFUSED_CALLBACKS)
    _refuse_objects(trainer, "plugins", REFUSED_PLUGINS)
    for name, (defaults, reason) in IDLE_OPTIONS.items():
        if name in trainer and isinstance(trainer[name], bool | int | float | str) and trainer[name] not in defaults:
            log.info(f"trainer.{name}: {_plain(trainer[name])} changes nothing: {reason}")
    if "gradient_clip_algorithm" in trainer and trainer["gradient_clip_algorithm"] and not trainer["gradient_clip_val"]:
        log.info("trainer.gradient_clip_algorithm changes nothing without gradient_clip_val")


def _refuse_objects(trainer: Any, name: str, refused: dict[type, str]) -> None:
    for value in as_list(trainer.get(name)):
        for kind, reason in refused.items():
            if isinstance(value, kind):
                raise BadInput(f"trainer.{name}: {type(value).__name__}: {reason}")


def as_list(value: Any) -> list[Any]:
    """Converts a value that Lightning accepts as None, one object or a list to a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def refuse_trainer_errors() -> Iterator[None]:
    """Turns an error of making Lightning's trainer into a BadInput: a setting that it cannot honour, or a package that is missing."""
    try:
        yield
    except TRAINER_ERRORS as error:
        raise BadInput(f"trainer: {one_line(error, 1000)}") from None
