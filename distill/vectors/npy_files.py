"""Opens vectors in `.npy` files; their ids are in a text file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill.records import BadInput, one_line
from distill.vectors.vector_files import GivenIds, VectorFiles, read_ids


def open_npy(path: str, files: list[Path], ids: GivenIds) -> VectorFiles:
    """Opens the `.npy` files in `path`, one after the other.

    Args:
        path: as the user named it.
        files: the files, in the order of their rows.
        ids: text file with an id a line, or a list.
    """
    all_ids = read_ids(path, ids)
    arrays: list[np.ndarray] = []
    for file in files:
        arrays.append(_open_table(file, width=arrays[0].shape[1] if arrays else None))

    def read(size: int) -> Iterator[np.ndarray]:
        return (array[start : start + size] for array in arrays for start in range(0, len(array), size))

    return VectorFiles(path, sum(map(len, arrays)), arrays[0].shape[1], all_ids, read)


def _open_table(file: Path, width: int | None) -> np.ndarray:
    """Maps the array [rows, D] of floats in a file into memory; refuses one that is not `width` wide."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python, which can raise many kinds
        raise BadInput(f"{file}: not a whole .npy file ({one_line(error)}): write it again") from None
    if array.ndim != 2 or array.dtype.kind != "f" or width not in (None, array.shape[1]):
        expected = "a table of floats" if width is None else f"a table of floats {width} wide"
        raise BadInput(f"{file}: holds {array.dtype} of shape {array.shape}: expected {expected} [rows, width]")
    return array
