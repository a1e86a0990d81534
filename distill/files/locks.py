"""Locks between processes: one process at a time writes a folder, and one writes a file that others wait for.

Every lock ends with its process, however that ends, and processes that it forked (loaders, pools) do not hold it.
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
        The lock: it ends with a `with` block of it, or when nothing refers to it any more. Where the file system has no locks, nothing
        is locked.

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
    """Makes other processes that would write `path` wait until the block ends: of the ranks of a node the first computes what all need."""
    with ExitStack() as stack:
        with suppress(OSError):  # a cache that cannot be written, or a file system without locks
            stack.enter_context(_make_lock(path.with_name(f".{path.name}.lock")))
        yield


def _make_lock(path: Path) -> FileLock:
    # Not the library's stand-in for file systems without locks, a file whose existence locks: it would outlive a killed process.
    return FileLock(path, thread_local=False, fallback_to_soft=False)
