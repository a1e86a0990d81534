"""Arrays in files that another process may replace, rewrite or cut while this one reads them: it reads one state of them, or refuses."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.fingerprints import file_fingerprint
from distill.records import BadInput, one_line

ROWS_PER_CALL = 1024  # addresses that the system reads from in one call
State = tuple[int, int, int, int]  # device, inode, bytes, time of the last change


class RawArray:
    """Rows of numbers in a file, from byte `offset` on, of which consecutive ones are read; a file that changed meanwhile is refused.

    Args:
        path: the file.
        remedy: how to mend it, for messages.
        offset: byte of the first number.
        checksum: fingerprint of the file's bytes: with it, a file that was written again with the same bytes counts as unchanged.
    """

    def __init__(self, path: Path, remedy: str, offset: int = 0, checksum: str | None = None):
        self.path, self.remedy, self.offset, self.checksum = path, remedy, offset, checksum
        self._state = _read_state(path)

    def require_unchanged(self) -> None:
        """Refuses a file that holds other bytes than when it was opened."""
        try:
            state = _read_state(self.path)
            if state != self._state:
                if self.checksum is None or file_fingerprint(self.path) != self.checksum:
                    raise self.changed()
                self._state = state
        except OSError as error:
            raise BadInput(f"{self.path}: gone while it was read ({error.strerror}): {self.remedy}") from None

    def read(self, start: int, into: np.ndarray) -> None:
        """Fills `into` [n, D], of the numbers' dtype, with the rows from `start` on, without a memory map."""
        self.require_unchanged()
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset + start * into.shape[1] * into.itemsize)
            view, done = into.reshape(-1).view(np.uint8).data, 0
            while done < len(view):  # a single call may read less
                count = file.readinto(view[done:])
                if not count:
                    raise self.changed()
                done += count
            if _make_state(os.fstat(file.fileno())) != self._state:
                raise self.changed()

    def changed(self) -> BadInput:
        """The error of a file that changed."""
        return BadInput(f"{self.path}: changed while it was read: {self.remedy}")


class ArrayFile:
    """An array in a `.npy` file that is mapped into memory.

    To read a memory map past the end of a file that was truncated kills the process. So rows are copied by the system, which returns an
    error instead; and before every reading the file is compared with what it was.

    Args:
        path: the file.
        remedy: how to mend it, for messages.
        checksum: as of `RawArray`.

    Attributes:
        array: the mapped array; call `require_unchanged` before reading from it.

    Raises:
        BadInput: the file is missing, cut off or no array.
    """

    def __init__(self, path: Path, remedy: str, checksum: str | None = None):
        self.path = path
        try:
            self._raw = RawArray(path, remedy, checksum=checksum)
            self.array: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
            self._raw.offset = self.array.offset
        except Exception as error:  # NumPy parses the header as Python, which can raise many kinds
            raise BadInput(f"{path}: missing or truncated ({one_line(error)}): {remedy}") from None

    def require_unchanged(self) -> None:
        """Refuses a file that holds other bytes than when it was opened."""
        self._raw.require_unchanged()

    def read(self, start: int, into: np.ndarray) -> None:
        """Fills `into` [n, D] with the rows from `start` on, without the memory map where the file's format allows it."""
        if self.array.flags.c_contiguous and self.array.dtype == into.dtype:
            self._raw.read(start, into)
            return
        self.require_unchanged()
        into[:] = self.array[start : start + len(into)]

    def changed(self) -> BadInput:
        """The error of a file that changed."""
        return self._raw.changed()

    def unmap(self) -> None:
        """Frees the memory of this process that reading took; the file stays in the system's cache."""
        if isinstance(self.array.base, mmap.mmap):
            self.array.base.madvise(mmap.MADV_DONTNEED)


class ArrayFiles:
    """Arrays [n, D] of one width in several files, to look up rows in.

    Args:
        files: the files; their arrays may have any dtype and order.
        dtype: of the rows that are looked up.
    """

    def __init__(self, files: Sequence[ArrayFile], dtype: np.dtype):
        self.files = files
        is_plain = all(file.array.flags.c_contiguous and file.array.dtype == dtype for file in files)
        self._addresses = np.array([file.array.ctypes.data for file in files], np.uint64) if is_plain and _system_copy() else None

    def take(self, numbers: np.ndarray, rows: np.ndarray, into: np.ndarray) -> None:
        """Fills `into` [n, D] with the row `rows[i]` of file `numbers[i]`, for all n."""
        found = np.unique(numbers)
        for number in found:
            self.files[number].require_unchanged()
        if self._addresses is not None:
            try:
                row_bytes = into.strides[0]  # of the files' rows too, which have the dtype and width of `into`
                copy_rows(self._addresses[numbers] + (rows * row_bytes).astype(np.uint64), into)
                return
            except OSError as error:
                if error.errno == errno.EFAULT:
                    raise self._find_changed(found) from None
                self._addresses = None  # a system that forbids this kind of copy
        for number in found:
            here = numbers == number
            into[here] = self.files[number].array[rows[here]]

    def _find_changed(self, numbers: np.ndarray) -> BadInput:
        """The error of the first of these files that changed since it was opened."""
        for number in numbers:
            try:
                self.files[number].require_unchanged()
            except BadInput as error:
                return error
        return self.files[numbers[0]].changed()


def copy_rows(addresses: np.ndarray, into: np.ndarray) -> None:
    """Copies rows in memory maps into `into` [n, D]; OSError with EFAULT where a file does not reach so far any more.

    Args:
        addresses: [n] uint64, where each row begins.
        into: contiguous, of the rows' dtype and width.
    """
    copy, size = _system_copy(), into.strides[0]
    if threading.current_thread() is not threading.main_thread():
        copy = _system_copy(frees_lock=True)
    places = np.empty((len(addresses), 2), np.uint64)  # address and bytes of each row
    places[:, 0] = addresses
    places[:, 1] = size
    for start in range(0, len(places), ROWS_PER_CALL):
        part = places[start : start + ROWS_PER_CALL]
        target = np.array([into.ctypes.data + start * size, len(part) * size], np.uint64)
        copied = copy(os.getpid(), target.ctypes.data, 1, part.ctypes.data, len(part), 0)
        if copied != len(part) * size:
            raise OSError(ctypes.get_errno() if copied < 0 else errno.EFAULT, "not all rows could be copied")


@cache
def _system_copy(frees_lock: bool = False) -> Any:
    """Linux's process_vm_readv, which copies memory of a process, here of this one: an error where plain reading would kill the process.

    None on other systems.

    Args:
        frees_lock: whether other threads run Python meanwhile: a thread that works ahead must not stop the main one while it waits for a
            disk. In the main thread, to give up the lock for microseconds could cost milliseconds.
    """
    library = (ctypes.CDLL if frees_lock else ctypes.PyDLL)(None, use_errno=True)
    function = getattr(library, "process_vm_readv", None)
    if function is None:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_ulong
    function.argtypes = [ctypes.c_int, pointer, number, pointer, number, number]
    function.restype = ctypes.c_ssize_t
    return function


def _read_state(path: Path) -> State:
    return _make_state(os.stat(path))


def _make_state(status: os.stat_result) -> State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
