"""TensorBoard's logger, whose errors on a full disk say so and name the folder."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger


class EventLogger(TensorBoardLogger):
    """Writes TensorBoard's files to `tensorboard/` in a run folder.

    They are written by a thread of TensorBoard. What the disk refuses there is raised by one of the next calls, under other names.

    Args:
        folder: the run folder.
        purge_step: step from which on earlier values are hidden; None hides none.

    Raises:
        OSError: in every method: the disk is full or cannot be written; it names the folder.
    """

    def __init__(self, folder: Path, purge_step: int | None):
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=purge_step)
        _silence_writer_threads()

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        with self._naming_the_folder():
            super().log_metrics(*args, **kwargs)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        with self._naming_the_folder():
            super().log_hyperparams(*args, **kwargs)

    def save(self) -> None:
        with self._naming_the_folder():
            super().save()

    def finalize(self, status: str) -> None:
        with self._naming_the_folder():
            super().finalize(status)

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # the logger takes any error for one of the value that was to be logged
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError):
                raise
            code = cause.errno or errno.EIO
            raise OSError(code, os.strerror(code), cause.filename or self.log_dir) from None


def _silence_writer_threads() -> None:
    """Keeps Python from printing the errors of TensorBoard's threads, which the caller's thread raises too."""
    previous: Callable[[Any], Any] = threading.excepthook
    if getattr(previous, "is_ours", False):
        return

    def print_others(failure: Any) -> None:
        is_writer = type(failure.thread).__module__.startswith("tensorboard.")
        if not (is_writer and isinstance(failure.exc_value, OSError)):
            previous(failure)

    print_others.is_ours = True  # type: ignore[attr-defined]
    threading.excepthook = print_others
