"""`ProcessLock`: an open file that one process at a time has locked, until it ends, even by a kill."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import Any

from distill.records import BadInput

# A link is not followed, as it may lead to somebody's file; a pipe is not waited for.
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ProcessLock:
    """A lock on a file, which is made where it does not exist and never written. Processes that are forked do not have the lock.

    Args:
        path: the file.

    Raises:
        BadInput: there is a link, a pipe or a device in its place.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = os.open(path, FLAGS, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP or path.is_symlink():
                raise BadInput(f"{path}: a link in the place of a lock: delete it") from None
            raise
        _open_locks.add(self)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            self.close()
            raise BadInput(f"{path}: not a file, which a lock is: delete it")

    def acquire(self) -> bool:
        """Takes the lock; False where another process has it. OSError: a file system without locks."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def is_in_place(self) -> bool:
        """Whether the file still has its name; another process may have removed it before it was locked."""
        try:
            return os.path.samestat(os.fstat(self._file), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Ends the lock."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> ProcessLock:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.close()


_open_locks: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


def _close_in_child() -> None:
    """A forked process would keep its parent's locks after the parent's end."""
    for lock in list(_open_locks):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)
