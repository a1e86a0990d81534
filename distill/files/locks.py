"""Locks between processes: one process at a time writes a folder, and one writes a file that others wait for.

A lock ends with its process, even one that is killed. Processes that it forks (loaders, pools) do not have the lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distill.records import BadInput


def lock_folder(folder: Path) -> AbstractContextManager[Any]:
    """Keeps other processes from writing `folder`, which is made where it does not exist.

    Returns:
        The lock, for a `with` statement; without one it ends when nothing refers to it any more. A file system without locks locks
        nothing.

    Raises:
        BadInput: another process has the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _make_lock(folder / ".lock").acquire(blocking=False)
    except Timeout:
        raise BadInput(f"{folder}: another process is writing it: wait until it ends, or choose another --out") from None
    except OSError as error:
        if error.filename:  # the lock file itself cannot be written
            raise
        return nullcontext()  # a file system without locks


@contextmanager
def wait_for_lock(path: Path) -> Iterator[None]:
    """Lets one process at a time into the block, which writes `path`: one rank of a machine computes it, the others wait and read it."""
    with ExitStack() as stack:
        with suppress(OSError):  # a cache that cannot be written, or a file system without locks
            stack.enter_context(_make_lock(path.with_name(f".{path.name}.lock")))
        yield


def _make_lock(path: Path) -> FileLock:
    # No fallback where the file system has no locks: filelock would use a file whose existence is the lock, which outlives a kill.
    return FileLock(path, thread_local=False, fallback_to_soft=False)
