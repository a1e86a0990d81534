"""Opens vectors in `.npy` files; their ids are in a text file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill.records import BadInput
from distill.vectors.array_file import ArrayFile
from distill.vectors.vector_files import FLOATS, GivenIds, VectorFiles, read_ids


def open_npy(path: str, files: list[Path], ids: GivenIds) -> VectorFiles:
    """Opens the `.npy` files in `path`, one after the other.

    Args:
        path: as the user named it.
        files: the files, in the order of their rows.
        ids: text file with an id a line, or a list.
    """
    all_ids = read_ids(path, ids)
    tables: list[ArrayFile] = []
    for file in files:
        tables.append(_open_table(file, width=tables[0].array.shape[1] if tables else None))

    def read(size: int) -> Iterator[np.ndarray]:
        return (_read_part(table, start, size) for table in tables for start in range(0, len(table.array), size))

    return VectorFiles(path, sum(len(table.array) for table in tables), tables[0].array.shape[1], all_ids, read)


def _read_part(table: ArrayFile, start: int, size: int) -> np.ndarray:
    rows, width = table.array.shape
    part = np.empty((min(size, rows - start), width), table.array.dtype)
    table.read(start, part)
    return part


def _open_table(file: Path, width: int | None) -> ArrayFile:
    """Opens the array [rows, D] of floats in a file; refuses one that is not `width` wide."""
    try:
        table = ArrayFile(file, "write it again")
    except BadInput as error:
        raise BadInput(f"{file}: not a whole .npy file{str(error).removeprefix(f'{file}: missing or truncated')}") from None
    array = table.array
    if array.ndim != 2 or array.dtype not in FLOATS or width not in (None, array.shape[1]):
        expected = "a table of floats" if width is None else f"a table of floats {width} wide"
        fix = ": multiply whole numbers by their scale and save them as float32" if array.dtype.kind in "iu" else ""
        raise BadInput(f"{file}: holds {array.dtype} of shape {array.shape}: expected {expected} [rows, width]{fix}")
    return table
