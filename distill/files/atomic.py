"""Writes files and folders whole or not at all, reads and writes JSON, refuses content that is damaged or made from other inputs."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from distill.files.temporaries import sweep_temporaries, temporary_names
from distill.records import BadInput, one_line

# Errors of code that reads values which nobody has checked.
READING_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, NotImplementedError)
# NumPy, safetensors and others have errors of their own for a full disk.
DISK_IS_FULL = re.compile(r"os error 28|requested and \d+ written|No space left on device")


@contextmanager
def write_atomically(path: Path, exclusive: bool = False) -> Iterator[Path]:
    """Yields a temporary path, which is renamed to `path` when the block ends without an error.

    What a killed process left of an earlier try is removed. Others can read what was written, as far as the process's umask lets them,
    also where a library made a private temporary file of it.

    Args:
        path: file or folder to write; missing parents are made.
        exclusive: True raises FileExistsError where another process wrote `path` meanwhile; False replaces its file.

    Raises:
        OSError: the disk is full or cannot be written; it names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(path.parent, path.name)
    try:
        with temporary_names(path) as (temporary, replaced):
            yield temporary
            _let_others_read(temporary)
            if temporary.is_file():
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())
            elif path.is_dir():
                # os.replace refuses a folder that has files: the old one is moved away first, whole.
                os.replace(path, replaced)
            if exclusive:
                _rename_exclusively(temporary, path)
            else:
                os.replace(temporary, path)
    except Exception as error:
        code = errno.ENOSPC if DISK_IS_FULL.search(str(error)) else getattr(error, "errno", None)
        # an error that does not name its file, or that of a copy, which names the file that was copied
        if code and (not getattr(error, "filename", None) or getattr(error, "filename2", None)):
            raise OSError(code, os.strerror(code), str(path)) from None
        raise


def _let_others_read(path: Path) -> None:
    """Gives a file, or a folder and all in it, the rights that plain `open` and `mkdir` give; takes none away."""
    for entry in [path, *path.rglob("*")]:
        mode = entry.lstat().st_mode
        usual = 0o777 if stat.S_ISDIR(mode) else 0o666
        missing = usual & ~_umask() & ~mode
        if missing and not stat.S_ISLNK(mode):
            with suppress(PermissionError):  # a disk on which rights are fixed
                entry.chmod(stat.S_IMODE(mode) | missing)


@cache
def _umask() -> int:
    """The rights that new files of this process lack; it can only be read by setting it, so it is read once."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _rename_exclusively(temporary: Path, path: Path) -> None:
    """Gives a file its name; FileExistsError where a file has it already."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        os.replace(temporary, path)


def has_files(folder: Path) -> bool:
    """Whether there is anything in a folder but locks and temporary files."""
    return any(not path.name.startswith(".") for path in folder.glob("*"))


def path_within(folder: Path, name: str) -> Path:
    """The path of the file or folder `name` below `folder`.

    Raises:
        BadInput: the name leads out of the folder: a folder from somebody else must not make us read other files.

    >>> path_within(Path("model"), "../secret")
    Traceback (most recent call last):
    distill.records.BadInput: model: names '../secret', which lies outside of it: restore it
    """
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise BadInput(f"{folder}: names {name!r}, which lies outside of it: restore it")
    return path


def refuse_other_inputs(folder: Path, before: Any, now: dict[str, Any]) -> None:
    """Raises BadInput where the content of a folder was made from other inputs.

    Args:
        folder: named in the message.
        before: the inputs it was made from, as they were read from it.
        now: the inputs it would be made from now.
    """
    for key, value in now.items():
        earlier = before.get(key) if isinstance(before, dict) else None
        if earlier != value:
            raise BadInput(f"{folder}: made from other inputs ({key} was {earlier}, now {value}): choose another --out or delete it")


@contextmanager
def refuse_unreadable(what: str, path: str | Path) -> Iterator[None]:
    """Turns an error of the block, which reads `path`, into a BadInput: the file is damaged, or is not `what`, e.g. "a model folder"."""
    try:
        yield
    except READING_ERRORS as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise BadInput(f"{path}: not {what}, or a damaged one ({reason}): restore it") from error


def write_json(path: Path, value: Any, exclusive: bool = False) -> None:
    """Writes `value` as indented JSON; `exclusive` as in `write_atomically`."""
    with write_atomically(path, exclusive) as temporary:
        temporary.write_bytes(encode_json(value))


def encode_json(value: Any) -> bytes:
    """Returns the bytes of `value` as indented JSON.

    >>> encode_json({"rows": 2})
    b'{\\n "rows": 2\\n}\\n'
    """
    # UTF-8 cannot encode half a surrogate pair: it is written as the escape that JSON has for it.
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def read_json(path: Path, what: str) -> Any:
    """The value in a JSON file.

    Raises:
        BadInput: the file is missing or is not JSON; the message calls it `what`.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no {what} here") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, or brackets nested thousands deep
        raise BadInput(f"{path}: {what} is not valid JSON ({one_line(error)})") from None
