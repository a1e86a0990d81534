"""Locks between processes: who writes a folder, and who makes a file that others wait for."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from distill.records import BadInput


def lock_folder(folder: Path) -> IO[str]:
    """A file that keeps other processes from holding `folder` while it is open; whatever ends this process closes it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"{folder}: another process is writing it: wait until it ends, or choose another --out") from None
    except OSError:
        pass  # a file system without locks
    return lock


@contextmanager
def wait_for_lock(path: Path) -> Iterator[None]:
    """Who makes `path` while others wait here: of the ranks of a node the first makes what all need."""
    with ExitStack() as stack:
        with suppress(OSError):  # a cache that cannot be written, or a file system without locks
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(open(path.with_name(f".{path.name}.lock"), "w")), fcntl.LOCK_EX)
        yield
