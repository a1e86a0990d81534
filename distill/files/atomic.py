"""Files that are whole or absent: fingerprints of inputs, atomic writes, the folder of rebuilt-on-demand caches."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.records import BadInput

# what reading values that were never checked can raise
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, NotImplementedError)
FULL = re.compile(r"os error 28|requested and \d+ written")


@contextmanager
def write_atomically(path: Path, unless_there: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it takes its name only when the block ends without an error.

    `unless_there`: FileExistsError where another process was faster; else the later one wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # machines that share a disk may have processes of one number
    temporary, old = (path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    _remove(temporary)  # of a killed process that had this number
    try:
        yield temporary
        if temporary.is_file():
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            os.replace(path, old)  # nothing replaces a folder that has files; half of one must not be left under its name
        if unless_there:
            _linked(temporary, path)
        else:
            os.replace(temporary, path)
    except Exception as error:
        # numpy and safetensors have errors of their own for a full disk
        number = errno.ENOSPC if FULL.search(str(error)) else getattr(error, "errno", None)
        if number and not getattr(error, "filename", None):
            raise OSError(number, os.strerror(number), str(path)) from None
        raise
    finally:
        _remove(temporary)
        _remove(old)


def _linked(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        os.replace(temporary, path)


def refuse_other_inputs(folder: Path, before: Any, now: dict[str, Any]) -> None:
    """BadInput where what lies in a folder was made `before` from other inputs than `now`."""
    for key, value in now.items():
        if (found := before.get(key) if isinstance(before, dict) else None) != value:
            raise BadInput(f"{folder}: made from other inputs ({key} was {found}, now {value}): choose another --out or delete it")


def holds_files(folder: Path) -> bool:
    """Whether there is anything in a folder but locks and temporaries."""
    return any(not path.name.startswith(".") for path in folder.glob("*"))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def refuse_unreadable(what: str, path: str | Path) -> Iterator[None]:
    """BadInput in one line for whatever the block meets in `path` that does not belong into `what`."""
    try:
        yield
    except UNREADABLE as error:
        remark = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadInput(f"{path}: not {what}, or a damaged one ({remark}): restore it") from error


def path_within(folder: Path, name: str) -> Path:
    """The path `name` of a file or folder below `folder`; refuses one that leaves it, as whoever sends a folder may not choose that."""
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise BadInput(f"{folder}: names {name!r}, which lies outside of it: restore it")
    return path


def write_json(path: Path, value: Any, unless_there: bool = False) -> None:
    """Writes `value` as indented JSON under a temporary name, then renames it."""
    with write_atomically(path, unless_there) as temporary:
        # half a surrogate pair, which UTF-8 has no place for, stays the escape that JSON knows it by
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: Path, what: str) -> Any:
    """The JSON in `path`; `what` names it in the error when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no {what} here") from None
    except (ValueError, RecursionError) as error:  # not text, numbers of thousands of digits, brackets thousands deep
        raise BadInput(f"{path}: {what} is not valid JSON ({' '.join(str(error).split())})") from None
