"""Arrays that are computed once and stored beside their checksum: a missing or damaged one is computed again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from distill.files.atomic import write_atomically
from distill.files.fingerprints import file_fingerprint
from distill.files.locks import wait_for_lock
from distill.files.temporaries import sweep_temporaries


def cache_folder() -> Path:
    """The folder of token arrays, unpacked files and teachers' top documents; safe to delete. `DISTILL_CACHE` moves it."""
    folder = Path(os.environ.get("DISTILL_CACHE", Path.home() / ".cache" / "distill"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_or_compute(path: Path, compute: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
    """Loads the array in a `.npy` file, memory-mapped; computes it first where the file is missing or its bytes have changed.

    Args:
        path: the file; its checksum lies beside it.
        compute: yields one part or more, which are joined along rows; only one is in memory at a time.
    """
    checksum = path.with_suffix(".xxh3")
    with wait_for_lock(path):
        if not _is_intact(path, checksum):
            sweep_temporaries(path.parent)  # what is half-written may be of inputs that nobody has any more
            with write_atomically(path) as temporary, open(temporary, "wb") as file:
                _write_parts(compute(), file)
            with write_atomically(checksum) as temporary:
                temporary.write_text(file_fingerprint(path))
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _is_intact(path: Path, checksum: Path) -> bool:
    return path.exists() and checksum.exists() and checksum.read_bytes() == file_fingerprint(path).encode()


def _write_parts(parts: Iterable[np.ndarray], file: IO[bytes]) -> None:
    """Writes parts as one array, whose number of rows is known at the end."""
    rows, header = 0, None
    for part in parts:
        if header is None:
            header = npy.header_data_from_array_1_0(part)
            npy.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(part).data)
        rows += len(part)
    assert header is not None, "an array has at least one part"
    file.seek(0)  # NumPy leaves room in a header for any number of rows
    npy.write_array_header_1_0(file, {**header, "shape": (rows, *header["shape"][1:])})
