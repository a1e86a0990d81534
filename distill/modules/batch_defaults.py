"""How many queries a batch has, and the learning rate beside it, where the user says neither: on a GPU batches of 64 leave it idle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Trainer

from distill.data.datamodule import BATCH_SIZE, RetrievalData
from distill.files.configs import Configurable
from distill.files.progress import log

if TYPE_CHECKING:
    from distill.modules.student import StudentModule

LEARNING_RATE = 1e-3  # for batches of BATCH_SIZE
LARGEST_ON_GPU = 512  # queries per rank and step
STEPS_AT_LEAST = 100  # of an epoch: more than that is learnt by many small steps than by few large ones


def settle_batch(module: StudentModule, data: RetrievalData, trainer: Trainer, before: Mapping[str, Any] | None = None) -> None:
    """Sets `data.batch_size` and `module.learning_rate` where the user gave none; a second call changes nothing.

    Args:
        module: the student.
        data: its data, after their setup.
        trainer: the trainer, whose device and ranks count.
        before: configuration of `data` and `model` that an unfinished run was begun with, whose numbers are kept; None for a new run.
    """
    has_no_size, has_no_rate = (_is_open(data, "batch_size"), _is_open(module, "learning_rate"))
    if before is not None:
        size, rate = before["data"].get("batch_size"), before["model"].get("learning_rate")
    elif has_no_size and has_no_rate and trainer.strategy.root_device.type == "cuda" and module.documents == "inherited":
        size = choose_batch_size(len(data.training_queries), trainer.world_size)
        rate = choose_learning_rate(size * trainer.world_size)
        if size > BATCH_SIZE and trainer.is_global_zero:
            numbers = f"batches of {size} queries and a learning rate of {rate:.3g}"
            log.info(f"a GPU trains: {numbers}; data.batch_size and model.learning_rate set others")
    else:
        size = rate = None
    if has_no_size:
        data.batch_size = data.init_args["batch_size"] = size or data.batch_size
    if has_no_rate:
        module.learning_rate = module.init_args["learning_rate"] = rate or module.learning_rate


def _is_open(part: Configurable, name: str) -> bool:
    """Whether an argument was left to its default, None, and nothing has been chosen for it."""
    return getattr(part, "init_args", {}).get(name, "unknown") is None


def choose_batch_size(queries: int, ranks: int) -> int:
    """The queries of a rank's batch on a GPU: 512, or half as many again and again, down to 64, until an epoch has enough steps.

    >>> choose_batch_size(500_000, ranks=1), choose_batch_size(500_000, ranks=16), choose_batch_size(20_000, ranks=1)
    (512, 256, 128)
    """
    size = LARGEST_ON_GPU
    while size > BATCH_SIZE and queries < STEPS_AT_LEAST * size * ranks:
        size //= 2
    return size


def choose_learning_rate(queries: int) -> float:
    """The learning rate for batches of so many queries, of all ranks together: it grows as the root of that, as AdamW's noise does.

    >>> choose_learning_rate(64), round(choose_learning_rate(256), 4), choose_learning_rate(512) == choose_learning_rate(4096)
    (0.001, 0.002, True)
    """
    return LEARNING_RATE * max(1.0, min(queries, LARGEST_ON_GPU) / BATCH_SIZE) ** 0.5
