"""`VectorFiles`: vectors that another program wrote, in any file format, read batch by batch in row order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from distill.files.text_lines import HEAD, refuse_other_kinds
from distill.records import BadInput
from distill.texts.ids import LONGEST_ID_BYTES, Ids
from distill.texts.line_spans import NEWLINE, TAB, cut_out, line_spans, skip_byte_order_marks
from distill.vectors.store_plan import HALF_MAX

FLOATS = (np.float16, np.float32, np.float64)  # in the byte order of this machine

ROWS_PER_BATCH = 8192
BYTES_PER_READ = 1 << 24

GivenIds = str | Sequence[str] | None  # a text file with an id a line, or a list of ids


@dataclass(frozen=True)
class VectorFiles:
    """Vectors [N, D] on disk with an id each. One more format is a file beside import_npy.py and a line in import_formats.py's READERS.

    Attributes:
        path: as the user named it.
        rows: N.
        width: D.
        ids: N ids.
        read: function that takes a number of rows, and yields all vectors in row order, at most so many rows at a time. An import calls
            it twice, for the fingerprint and for the vectors, and both times the order must be the same.
    """

    path: str
    rows: int
    width: int
    ids: Ids
    read: Callable[[int], Iterator[np.ndarray]]

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yields all vectors in row order, [size, D] each and the rest last, however the files are divided.

        >>> parts = [np.zeros((2, 4)), np.zeros((3, 4))]
        >>> files = VectorFiles("two files", 5, 4, Ids.of("abcde"), lambda size: iter(parts))
        >>> [len(batch) for batch in files.batches(2)]
        [2, 2, 1]
        """
        parts: list[np.ndarray] = []
        missing = size
        for part in self.read(size):
            while len(part):
                head, part = part[:missing], part[missing:]
                parts.append(head)
                missing -= len(head)
                if not missing:
                    yield _join(parts)
                    parts, missing = [], size
        if parts:
            yield _join(parts)

    def fingerprint(self) -> str:
        """Returns 16 hex digits of all numbers in their number format, the same in every kind of file.

        The same numbers as float16 and as float32 are other vectors. Refuses NaN and what float16 cannot hold.
        """
        digest, start = xxhash.xxh3_64(), 0
        for batch in self.batches(ROWS_PER_BATCH):
            # with NaN both comparisons are False
            if not (batch.min() >= -HALF_MAX and batch.max() <= HALF_MAX):
                row = start + int(np.argmin((np.abs(batch) <= HALF_MAX).all(axis=1)))
                raise BadInput(f"{self.path}: row {row}, id {self.ids[row]!r}, is not finite in float16: embed it again")
            digest.update(np.ascontiguousarray(batch).data)
            start += len(batch)
        return digest.hexdigest()


def open_array(vectors: np.ndarray, ids: GivenIds) -> VectorFiles:
    """An array [N, D] in memory as if it were in a file."""
    array = np.asarray(vectors)
    if array.ndim != 2 or array.dtype not in FLOATS:
        raise BadInput(f"vectors: {array.dtype} of shape {array.shape}: expected an array of floats [N, D], e.g. of float32")

    def read(size: int) -> Iterator[np.ndarray]:
        return (array[start : start + size] for start in range(0, len(array), size))

    return VectorFiles("vectors", len(array), array.shape[1], read_ids("vectors", ids), read)


def read_ids(path: str, ids: GivenIds) -> Ids:
    """Reads the ids of the vectors in `path`, which has none of its own, from a text file with an id a line or from a list.

    Those of a file stay bytes: millions of Python strings would fill the memory.
    """
    if ids is None:
        raise BadInput(f"{path}: has no ids of its own: give --ids, a text file with an id a line")
    if not isinstance(ids, str):
        return _list_to_ids([str(id_) for id_ in ids])
    if not Path(ids).is_file():
        raise BadInput(f"{ids}: no such file: --ids is a text file with an id a line")
    parts = [np.empty(0, "S1")]
    lines = 0
    for content in _read_whole_lines(ids):
        starts, ends = line_spans(content)
        starts = skip_byte_order_marks(content, starts)
        lengths = ends - starts
        _refuse_bad_lines(ids, content, lengths, lines)
        parts.append(cut_out(content, starts, lengths))
        lines += len(starts)
    if not lines:
        raise BadInput(f"{ids}: the file is empty: expected an id a line")
    return Ids(np.concatenate(parts))


def _read_whole_lines(ids: str) -> Iterator[np.ndarray]:
    """Yields the bytes of a file in parts that end with a line; a line of megabytes, which is no id, is not read to its end."""
    rest = b""
    with open(ids, "rb") as file:
        refuse_other_kinds(Path(ids), file.read(HEAD))
        file.seek(0)
        while block := file.read(BYTES_PER_READ):
            end = block.rfind(b"\n") + 1 or len(block)
            yield np.frombuffer(rest + block[:end], np.uint8)
            rest = block[end:]
    if rest:
        yield np.frombuffer(rest, np.uint8)


def check_vector_ids(ids: Ids, path: str) -> None:
    """Refuses ids of vectors, those of the file `path`, that cannot be a column of a run file, which evaluation writes."""
    odd = ids.first_odd()
    if odd is not None:
        row, fault = odd
        raise BadInput(f"{path}: number {row + 1}: the id {ids[row]!r} {fault}: rename it")


def _list_to_ids(ids: list[str]) -> Ids:
    for row, id_ in enumerate(ids):
        if not 0 < len(id_.encode(errors="replace")) <= LONGEST_ID_BYTES:
            raise BadInput(f"ids: the id of row {row} is {id_!r:.40}: expected 1 to {LONGEST_ID_BYTES} bytes")
    return Ids.of(ids)


def _refuse_bad_lines(ids: str, content: np.ndarray, lengths: np.ndarray, before: int) -> None:
    """Refuses a file of ids whose lines [n] are empty or too long, and one with tabs, which is a file of texts.

    Args:
        ids: the file, for messages.
        content: bytes of some of its lines.
        lengths: [n] bytes of each of these lines.
        before: number of lines before these.
    """
    bad = (lengths == 0) | (lengths > LONGEST_ID_BYTES)
    if bad.any():
        line = int(np.argmax(bad))
        raise BadInput(f"{ids}: line {before + line + 1} is {lengths[line]} bytes long: expected an id, 1 to {LONGEST_ID_BYTES} bytes")
    tabs = np.flatnonzero(content == TAB)
    if len(tabs):
        line = before + int(np.count_nonzero(content[: tabs[0]] == NEWLINE)) + 1
        raise BadInput(f"{ids}: line {line} has a tab: expected an id a line and nothing else")


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
