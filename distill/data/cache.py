"""Arrays that are worked out once and kept beside their checksum: a missing or damaged one is worked out again."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from distill.artefacts import file_fingerprint, written_atomically


def kept(path: Path, parts: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
    """The array in the `.npy` file `path`, memory-mapped; the `parts` one after the other where there is none or its bytes changed."""
    checksum = path.with_suffix(".xxh3")
    with one_at_a_time(path):
        if not (path.exists() and checksum.exists() and checksum.read_bytes() == file_fingerprint(path).encode()):
            with written_atomically(path) as temporary, open(temporary, "wb") as file:
                _write(parts(), file)
            with written_atomically(checksum) as temporary:
                temporary.write_text(file_fingerprint(path))
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _write(parts: Iterable[np.ndarray], file: IO[bytes]) -> None:
    """One array of at least one part, of which only one is held."""
    rows, header = 0, None
    for part in parts:
        if header is None:
            header = npy.header_data_from_array_1_0(part)
            npy.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(part).data)
        rows += len(part)
    assert header is not None
    file.seek(0)  # NumPy leaves room in a header for any number of rows
    npy.write_array_header_1_0(file, {**header, "shape": (rows, *header["shape"][1:])})


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Who makes `path` while others wait here: of the ranks of a node the first makes what all need."""
    with ExitStack() as stack:
        with suppress(OSError):  # a cache that cannot be written, or a file system without locks
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(open(path.with_name(f".{path.name}.lock"), "w")), fcntl.LOCK_EX)
        yield
