"""Locks between processes: one process at a time writes a folder, and one writes a file that others wait for.

A lock ends with its process, even one that is killed. Processes that it forks (loaders, pools) do not have the lock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from distill.files.process_lock import ProcessLock
from distill.files.progress import log
from distill.files.temporaries import sweep_tree
from distill.records import BadInput

SECONDS_IN_SILENCE = 5.0  # after which a process that waits says so
SECONDS_BETWEEN_LOOKS = 0.05


def lock_folder(folder: Path) -> AbstractContextManager[Any]:
    """Keeps other processes from writing `folder`, which is made where it does not exist, and removes what killed ones left in it.

    Returns:
        The lock, for a `with` statement; without one it ends when nothing refers to it any more. A file system without locks locks
        nothing.

    Raises:
        BadInput: another process has the lock, or there is a link in its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = ProcessLock(folder / ".lock")
    try:
        is_free = lock.acquire()
    except OSError:  # a file system without locks
        lock.close()
        return nullcontext()
    if not is_free:
        lock.close()
        raise BadInput(f"{folder}: another process is writing it: wait until it ends, or choose another --out")
    sweep_tree(folder)
    return lock


@contextmanager
def wait_for_lock(path: Path) -> Iterator[None]:
    """Lets one process at a time into the block, which writes `path`: one rank of a machine computes it, the others wait and read it.

    Who waits for seconds logs it.
    """
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = ProcessLock(path.with_name(f".{path.name}.lock"))
        _wait(lock, path)
    except OSError:  # a cache that cannot be written, or a file system without locks
        pass
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _wait(lock: ProcessLock, path: Path) -> None:
    say_at = time.monotonic() + SECONDS_IN_SILENCE
    while not lock.acquire():
        if time.monotonic() >= say_at:
            log.info(f"{path}: another process writes it: waiting until it is done or ends")
            say_at = float("inf")
        time.sleep(SECONDS_BETWEEN_LOOKS)
