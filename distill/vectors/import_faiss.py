"""Opens vectors in a flat faiss index on disk, which holds them unchanged, with or without ids of its own.

The file is read here, not by faiss, which trusts what a file says of itself: one made to harm, or damaged, would end the process.

IndexIDMap                IndexFlat
  4 bytes    IxMp, IxM2     4 bytes    IxFI (inner product), IxF2 (L2 distance), IxFl (others)
  header                    header
  IndexFlat                 8 bytes    rows * width
  8 bytes    rows           numbers    float32
  ids        int64
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors.array_file import RawArray
from distill.vectors.store_plan import MOST_ROWS, WIDEST
from distill.vectors.vector_files import GivenIds, VectorFiles, read_ids

LENGTHS_SAMPLED = 1000
HEADER = struct.Struct("<iqqq?i")  # width, rows, two of no use, whether it is trained, metric
INNER_PRODUCT, L2 = 0, 1  # metrics; those above L2 have a number of their own behind the header
FLAT = (b"IxFI", b"IxF2", b"IxFl")
ID_MAPS = (b"IxMp", b"IxM2")
REMEDY = "write the index again with faiss.write_index"
# kinds that hold vectors changed, and one that holds bits; others are called by the four letters in the file
OTHER_KINDS = {
    b"IwFl": "IndexIVFFlat",
    b"IwFd": "IndexIVFFlatDedup",
    b"IwSq": "IndexIVFScalarQuantizer",
    b"IwSQ": "IndexIVFScalarQuantizer",
    b"IwPQ": "IndexIVFPQ",
    b"IwQR": "IndexIVFPQR",
    b"IHNf": "IndexHNSWFlat",
    b"IHN2": "IndexHNSW2Level",
    b"IHNp": "IndexHNSWPQ",
    b"IHNs": "IndexHNSWSQ",
    b"INSf": "IndexNSGFlat",
    b"IxSQ": "IndexScalarQuantizer",
    b"IxPq": "IndexPQ",
    b"IxPT": "IndexPreTransform",
    b"IxRF": "IndexRefine",
    b"IxHE": "IndexLSH",
    b"IxHe": "IndexLSH",
    b"IBxF": "IndexBinaryFlat",
}


@dataclass(frozen=True)
class FlatIndex:
    """Where a flat index has what in its file."""

    rows: int
    width: int
    metric: int
    vectors_at: int  # byte of the first number
    ids: np.ndarray | None  # [N] int64; None where it has none


def open_flat_index(path: str, ids: GivenIds) -> VectorFiles:
    """Opens a flat faiss index.

    Args:
        path: as the user named it.
        ids: text file with an id a line, or a list; an index with its own ids (IndexIDMap) needs none.
    """
    index = read_flat_index(Path(path))
    vectors = RawArray(Path(path), REMEDY, index.vectors_at)

    def read_some(start: int, size: int) -> np.ndarray:
        part = np.empty((min(size, index.rows - start), index.width), "<f4")
        vectors.read(start, part)
        return part

    if index.metric not in (INNER_PRODUCT, L2):
        reason = f"ranks by metric {index.metric} of faiss, neither by inner products nor by L2"
        raise BadInput(f"{path}: {reason}: build an index of one of these")
    if index.metric != INNER_PRODUCT and index.rows:
        _refuse_unlike_lengths(path, read_some(0, LENGTHS_SAMPLED))
    all_ids = _numbers_to_ids(index.ids) if index.ids is not None and ids is None else read_ids(path, ids)

    def read(size: int) -> Iterator[np.ndarray]:
        return (read_some(start, size) for start in range(0, index.rows, size))

    return VectorFiles(path, index.rows, index.width, all_ids, read)


def read_flat_index(path: Path) -> FlatIndex:
    """Reads what a file says of itself; refuses another kind of index, and a file that says more than it has."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        kind = file.read(4)
        if kind in ID_MAPS:
            outer = _read_header(path, file)
            inner = _read_flat(path, file, file.read(4), size)
            return _with_ids(path, file, inner, size, outer[1])
        return _read_flat(path, file, kind, size)


def _read_flat(path: Path, file: BinaryIO, kind: bytes, size: int) -> FlatIndex:
    if kind not in FLAT:
        if not kind.isalnum() or not kind.startswith(b"I"):
            raise BadInput(f"{path}: neither .npy nor .parquet nor an index that faiss reads: name one of them")
        name = OTHER_KINDS.get(kind, f"the kind {kind.decode()}")
        raise BadInput(f"{path}: {name} has no exact vectors to give: expected IndexFlatIP, IndexFlatL2 or an IndexIDMap of one")
    width, rows, metric = _read_header(path, file)
    numbers = _read_count(path, file)
    if numbers != rows * width or file.tell() + 4 * numbers > size:
        raise _damaged(path)
    return FlatIndex(rows, width, metric, file.tell(), None)


def _read_header(path: Path, file: BinaryIO) -> tuple[int, int, int]:
    """Returns width, rows and metric."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise _damaged(path)
    width, rows, _, _, _, metric = HEADER.unpack(header)
    if metric > L2:
        file.seek(4, 1)
    if not 0 < width <= WIDEST or not 0 <= rows <= MOST_ROWS:
        raise _damaged(path)
    return width, rows, metric


def _with_ids(path: Path, file: BinaryIO, inner: FlatIndex, size: int, rows: int) -> FlatIndex:
    file.seek(inner.vectors_at + 4 * inner.rows * inner.width)
    count = _read_count(path, file)
    if count != inner.rows or count != rows or file.tell() + 8 * count > size:
        raise _damaged(path)
    ids = np.frombuffer(file.read(8 * count), "<i8")
    return FlatIndex(inner.rows, inner.width, inner.metric, inner.vectors_at, ids)


def _read_count(path: Path, file: BinaryIO) -> int:
    count = file.read(8)
    if len(count) < 8:
        raise _damaged(path)
    return int.from_bytes(count, "little")


def _damaged(path: Path) -> BadInput:
    return BadInput(f"{path}: a damaged faiss index: it is shorter than it says, or says what cannot be: {REMEDY}")


def _numbers_to_ids(numbers: np.ndarray) -> Ids:
    return Ids(np.char.encode(numbers.astype(str)))


def _refuse_unlike_lengths(path: str, first: np.ndarray) -> None:
    """Refuses an index by L2 distance unless its first vectors [n, D] have length 1: only then do L2 and inner product rank alike."""
    if not np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-2):
        raise BadInput(f"{path}: ranks vectors of unlike lengths by L2 distance, but here inner products rank: scale them to length 1")
