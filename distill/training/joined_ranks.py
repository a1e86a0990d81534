"""Ends all ranks where one of them fails before the training; for ranks that torchrun, a scheduler or a user started."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Trainer

from distill.files.launch import FIRST_RANK, end_with_launcher, is_started_by_first_rank, read_launch
from distill.files.progress import log
from distill.files.ranks import max_over_ranks
from distill.records import BadInput

SECONDS_TO_TELL = 60.0  # how long a rank that fails waits for the others, to tell them


@contextmanager
def refuse_on_all_ranks(trainer: Trainer) -> Iterator[None]:
    """Ends every rank where the block raises on one of them: without this the others would wait for it until they time out.

    Where the first rank starts the others itself, as `--trainer.devices 2` alone does, they do not exist yet while it is refused.

    Args:
        trainer: knows the ranks; the block is done when all of them have come to its end.
    """
    _refuse_lone_trainer(trainer)
    end_with_launcher()
    if not _are_started_elsewhere(trainer):
        os.environ[FIRST_RANK] = str(os.getpid())
        yield
        return
    try:
        yield
    except Exception as error:  # any error, e.g. of the disk that only the first rank writes to
        log.error(f"this rank ends, and tells the others: {error}")
        teller = threading.Thread(target=_meet, args=(trainer, 1), daemon=True)  # the others may never come
        teller.start()
        teller.join(SECONDS_TO_TELL)
        raise
    if _meet(trainer, 0):
        raise BadInput("another rank ended with an error: see its message")


def _refuse_lone_trainer(trainer: Trainer) -> None:
    """Refuses a trainer of fewer ranks than were started: each rank would train on its own, and they would write the same folder."""
    started = read_launch().world_size
    if started > trainer.world_size:
        fix = "set --trainer.devices and --trainer.strategy ddp, or --trainer 8gpu for all GPUs, or start it without torchrun"
        raise BadInput(f"trainer.devices: {started} ranks were started, and this trainer has {trainer.world_size}: {fix}")


def _are_started_elsewhere(trainer: Trainer) -> bool:
    environment: Any = getattr(trainer.strategy, "cluster_environment", None)
    return trainer.world_size > 1 and environment.creates_processes_externally and not is_started_by_first_rank()


def _meet(trainer: Trainer, refused: int) -> int:
    """Connects the ranks of the training, which stay connected for `fit`, and returns 1 where any of them passes `refused=1`."""
    trainer.strategy.setup_environment()
    return max_over_ranks(refused, trainer.strategy.root_device)
