"""Names for files that are being written, which no other process uses, and the removal of what killed processes left.

.NAME.TOKEN.tmp       a file or folder that becomes NAME
.NAME.TOKEN.old       the folder NAME, while another takes its place
.NAME.TOKEN.writing   a lock, as long as the process that writes these lives; TOKEN is random, behind four digits for the machine

Locks of a shared disk may hold on one machine only (NFS with nolock, Lustre with localflock): what another machine wrote is taken for left
only by who has the lock of the whole folder, or after a day.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from distill.files.fingerprints import fingerprint
from distill.files.process_lock import ProcessLock
from distill.records import BadInput

WRITING = re.compile(r"\.(.+)\.([0-9a-f]{16})\.writing", re.DOTALL)
DEEPEST = 2  # folders below one that is swept
SECONDS_OF_A_DAY = 86400


@contextmanager
def temporary_names(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yields two names beside `path`: one to write to and one for what is replaced. Both are removed at the end of the block."""
    lock, stem = _lock_new_name(path)
    temporary, replaced = path.with_name(f"{stem}.tmp"), path.with_name(f"{stem}.old")
    try:
        yield temporary, replaced
    finally:
        _clear(temporary, replaced, path)
        lock.path.unlink(missing_ok=True)
        lock.close()


def _lock_new_name(path: Path) -> tuple[ProcessLock, str]:
    while True:
        stem = f".{path.name}.{_machine()}{secrets.token_hex(6)}"
        try:
            lock = ProcessLock(path.with_name(f"{stem}.writing"))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        is_ours = True
        with suppress(OSError):  # a file system without locks
            is_ours = lock.acquire()
        if is_ours and lock.is_in_place:
            return lock, stem
        lock.close()  # another process swept it right after it was made


@cache
def _machine() -> str:
    return fingerprint(socket.gethostname())[:4]


def sweep_temporaries(folder: Path, name: str | None = None, of_any_machine: bool = False) -> None:
    """Removes what killed processes left in a folder; what living ones write stays. A folder that cannot be read or written is left.

    Args:
        folder: where to look.
        name: what they would have written; None sweeps what any name left.
        of_any_machine: whether no other machine writes there, as the caller has the lock of the folder.
    """
    with suppress(OSError):
        entries = list(os.scandir(folder))
        for entry in entries:
            leftover = WRITING.fullmatch(entry.name)
            if leftover and name in (None, leftover[1]):
                is_old = time.time() - entry.stat(follow_symlinks=False).st_mtime > SECONDS_OF_A_DAY
                if of_any_machine or is_old or leftover[2].startswith(_machine()):
                    _sweep_one(folder, *leftover.groups())
            elif _is_of_earlier_release(entry.name, name):
                remove(Path(entry.path))


def sweep_tree(folder: Path, depth: int = DEEPEST) -> None:
    """Sweeps a folder, whose lock the caller has, and those below it."""
    sweep_temporaries(folder, of_any_machine=True)
    if not depth:
        return
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                sweep_tree(Path(entry.path), depth - 1)


def _sweep_one(folder: Path, name: str, token: str) -> None:
    stem = f".{name}.{token}"
    with suppress(BadInput), ProcessLock(folder / f"{stem}.writing") as lock:
        if not lock.acquire() or not lock.is_in_place:
            return
        _clear(folder / f"{stem}.tmp", folder / f"{stem}.old", folder / name)
        lock.path.unlink(missing_ok=True)


def _clear(temporary: Path, replaced: Path, path: Path) -> None:
    """Removes both names; the old folder gets its own name back where nothing took its place."""
    if replaced.exists() and not os.path.lexists(path):
        os.replace(replaced, path)
    remove(temporary)
    remove(replaced)


def _is_of_earlier_release(entry: str, name: str | None) -> bool:
    """Whether a process of this machine that does not live any more left it; earlier releases named host and process."""
    written = ".+" if name is None else re.escape(name)
    leftover = re.fullmatch(rf"\.{written}\.{re.escape(socket.gethostname())}\.(\d+)\.(?:tmp|old)", entry, re.DOTALL)
    return leftover is not None and (int(leftover[1]) == os.getpid() or not _is_alive(int(leftover[1])))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def remove(path: Path) -> None:
    """Removes a file, a link or a folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
