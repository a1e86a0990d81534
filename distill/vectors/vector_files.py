"""Vectors that other programs left: NumPy arrays, parquet files, faiss flat indexes, read in order and a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from distill.files.atomic import refuse_unreadable
from distill.records import BadInput
from distill.texts.ids import Ids, as_bytes
from distill.texts.text_files import BYTE_ORDER_MARK, LONGEST_ID_BYTES, NEWLINE, TAB, cut_out, line_spans

ID_COLUMNS = ("_id", "id", "docid", "doc_id", "document_id", "qid", "query_id")  # where a table has other texts too
HALF_MAX = float(np.finfo(np.float16).max)  # stores keep float16
PIECE = 8192  # rows at a time where no one asks for another number


@dataclass(frozen=True)
class VectorFiles:
    """Vectors [N, D] on disk with an id each; `read(n)` yields them in row order, at most `n` rows at a time."""

    path: str  # as the user named it
    rows: int
    width: int
    ids: Ids
    read: Callable[[int], Iterator[np.ndarray]]

    def pieces(self, size: int) -> Iterator[np.ndarray]:
        """All rows in order, [size, D] each and the rest last, however the files are cut."""
        held: list[np.ndarray] = []
        for part in self.read(size):
            while len(part):
                room = size - sum(map(len, held))
                held.append(part[:room])
                part = part[room:]
                if sum(map(len, held)) == size:
                    yield _joined(held)
                    held = []
        if held:
            yield _joined(held)

    def fingerprint(self) -> str:
        """16 hex digits over every number, whatever the file format; refuses numbers that float16 cannot hold, and NaN."""
        digest, start = xxhash.xxh3_64(), 0
        for piece in self.pieces(PIECE):
            # NaN is in no interval
            if not (piece.min() >= -HALF_MAX and piece.max() <= HALF_MAX):
                row = int(np.flatnonzero(~(np.abs(piece) <= HALF_MAX).all(axis=1))[0])
                raise BadInput(f"{self.path}: row {start + row}, id {self.ids[start + row]!r}, is not finite in float16: embed it again")
            digest.update(np.ascontiguousarray(piece).data)
            start += len(piece)
        return digest.hexdigest()


def open_vectors(path: str, ids: str | None) -> VectorFiles:
    """Opens `.npy` or `.parquet` files, one or a folder of them, or a faiss index.

    Args:
        ids: text file with an id a line; of parquet files the column of ids. An index of its own ids (IndexIDMap) needs none.

    Raises BadInput when ids are missing, repeated, or not as many as vectors, and on anything that is not a table of floats.
    """
    files = _files(Path(path))
    if files[0].suffix == ".parquet":
        found = _parquet(path, files, ids)
    elif files[0].suffix == ".npy":
        found = _npy(path, files, _read_ids(path, ids))
    else:
        found = _flat_index(path, ids)
    if len(found.ids) != found.rows:
        raise BadInput(
            f"{path}: {found.rows} vectors, but {len(found.ids)} ids in {ids or 'it'}: give one id for every vector, in their order"
        )
    if not found.rows or not found.width:
        raise BadInput(f"{path}: there is no vector in it")
    if rows := found.ids.first_duplicate_rows():
        first, second = (row + 1 for row in rows)
        raise BadInput(f"{ids or path}: id {found.ids[rows[0]]!r} of row {second} is already taken by row {first}: ids must be unique")
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
        return [path]
    found = [sorted(path.glob(f"*{ending}")) for ending in (".npy", ".parquet")]
    if bool(found[0]) == bool(found[1]):
        raise BadInput(f"{path}: a folder of vectors holds .npy or .parquet files, one of the two: name the file instead")
    return found[0] or found[1]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _read_ids(path: str, ids: str | None) -> Ids:
    """One id a line, kept as bytes: nobody holds millions of them as Python objects."""
    if ids is None:
        raise BadInput(f"{path}: has no ids of its own: give --ids, a text file with an id a line")
    if not Path(ids).is_file():
        raise BadInput(f"{ids}: no such file: --ids is a text file with an id a line")
    content = np.fromfile(ids, np.uint8)
    content = content[len(BYTE_ORDER_MARK) :] if content[:3].tobytes() == BYTE_ORDER_MARK else content
    if not len(content):
        raise BadInput(f"{ids}: the file is empty: expected an id a line")
    starts, ends = line_spans(content)
    lengths = ends - starts
    for line in np.flatnonzero((lengths == 0) | (lengths > LONGEST_ID_BYTES))[:1]:
        raise BadInput(f"{ids}: line {line + 1} is {lengths[line]} bytes long: expected an id, 1 to {LONGEST_ID_BYTES} bytes")
    for tab in np.flatnonzero(content == TAB)[:1]:
        line = int(np.count_nonzero(content[:tab] == NEWLINE)) + 1
        raise BadInput(f"{ids}: line {line} has a tab: expected an id a line and nothing else")
    return Ids(cut_out(content, starts, lengths))


def _npy(path: str, files: list[Path], ids: Ids) -> VectorFiles:
    arrays: list[np.ndarray] = []
    for file in files:
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy reads the header as Python: there is much it can raise
            raise BadInput(f"{file}: not a whole .npy file ({' '.join(str(error).split())[:200]}): write it again") from None
        width = arrays[0].shape[1] if arrays else None
        if array.ndim != 2 or array.dtype.kind != "f" or width not in (None, array.shape[1]):
            wanted = f"a table of floats {'' if width is None else f'{width} wide '}[rows, width]"
            raise BadInput(f"{file}: holds {array.dtype} of shape {array.shape}: expected {wanted.replace('  ', ' ')}")
        arrays.append(array)

    def read(size: int) -> Iterator[np.ndarray]:
        return (array[start : start + size] for array in arrays for start in range(0, len(array), size))

    return VectorFiles(path, sum(map(len, arrays)), arrays[0].shape[1], ids, read)


def _parquet(path: str, files: list[Path], id_column: str | None) -> VectorFiles:
    try:
        from pyarrow import parquet
    except ImportError:
        raise BadInput(f"{path}: parquet is read by pyarrow, which is not installed: pip install 'distill[parquet]'") from None
    try:
        with refuse_unreadable("a parquet file", path):
            tables = [parquet.ParquetFile(file) for file in files]
    except OSError as error:
        raise BadInput(f"{path}: not a whole parquet file ({str(error).splitlines()[0]}): write it again") from None
    id_column, vector_column = _columns(path, tables[0].schema_arrow, id_column)
    for file, table in zip(files, tables, strict=True):
        if missing := {id_column, vector_column} - set(table.schema_arrow.names):
            raise BadInput(f"{file}: has no column {missing.pop()!r}, which {files[0].name} has")

    def column(name: str, size: int) -> Iterator[Any]:
        with refuse_unreadable("a parquet file", path):
            yield from (batch.column(0) for table in tables for batch in table.iter_batches(size, columns=[name]))

    ids = [np.empty(0, "S1")]
    for names in column(id_column, 65_536):
        if names.null_count:
            raise BadInput(f"{path}: column {id_column!r} has rows without an id: give every vector one")
        ids.append(as_bytes([str(name) for name in names.to_pylist()]))
    width = next((len(first[0]) for first in column(vector_column, 1) if first[0].is_valid), 0)
    return VectorFiles(
        path,
        sum(table.metadata.num_rows for table in tables),
        width,
        Ids(np.concatenate(ids)),
        lambda size: (_matrix(path, lists, width) for lists in column(vector_column, size)),
    )


def _columns(path: str, schema: Any, id_column: str | None) -> tuple[str, str]:
    """Names of the columns of ids and of vectors."""
    from pyarrow import types

    vectors = [field.name for field in schema if hasattr(field.type, "value_type") and types.is_floating(field.type.value_type)]
    if len(vectors) != 1:
        raise BadInput(f"{path}: {len(vectors)} columns hold lists of floats among {', '.join(schema.names)}: keep one, the vectors")
    names = [f.name for f in schema if types.is_string(f.type) or types.is_large_string(f.type) or types.is_integer(f.type)]
    known = [name for name in ID_COLUMNS if name in names]
    found = id_column or (names[0] if len(names) == 1 else known[0] if known else None)
    if found is None or found not in names:
        raise BadInput(f"{path}: which column holds the ids? Say --ids with one of {', '.join(names) or 'none, as it has none'}")
    return found, vectors[0]


def _matrix(path: str, lists: Any, width: int) -> np.ndarray:
    """[n, D] of a column of lists."""
    numbers = lists.flatten()
    even = len(numbers) == len(lists) * width and not lists.null_count and not numbers.null_count
    if even and hasattr(lists, "value_lengths"):
        even = bool((lists.value_lengths().to_numpy(zero_copy_only=False) == width).all())
    if not even:
        raise BadInput(f"{path}: not every vector is {width} numbers, as the first is: embed the others again")
    return numbers.to_numpy(zero_copy_only=False).reshape(-1, width)


def _flat_index(path: str, ids_file: str | None) -> VectorFiles:
    try:
        import faiss
    except ImportError:
        raise BadInput(f"{path}: neither .npy nor .parquet, and faiss, to read an index, is not installed: pip install faiss-cpu") from None
    try:
        # mapped into memory where faiss can
        whole: Any = faiss.read_index(path, getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    except RuntimeError:
        raise BadInput(f"{path}: neither .npy nor .parquet nor an index that faiss reads: name one of them") from None
    numbered = isinstance(whole, faiss.IndexIDMap)
    index = faiss.downcast_index(whole.index) if numbered else whole
    if not isinstance(index, faiss.IndexFlat):
        raise BadInput(
            f"{path}: {type(index).__name__} has no exact vectors to give: expected IndexFlatIP, IndexFlatL2 or an IndexIDMap of one"
        )
    first = index.reconstruct_n(0, min(1000, index.ntotal)) if index.ntotal else np.empty((0, index.d), np.float32)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT and not np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-2):
        raise BadInput(f"{path}: ranks vectors of unlike lengths by L2 distance, but here inner products rank: scale them to length 1")
    numbers = faiss.vector_to_array(whole.id_map).astype(str) if numbered else None
    ids = Ids(np.char.encode(numbers)) if numbers is not None and ids_file is None else _read_ids(path, ids_file)

    def read(size: int) -> Iterator[np.ndarray]:
        owner = whole  # `index` lives inside it
        return (index.reconstruct_n(start, min(size, owner.ntotal - start)) for start in range(0, owner.ntotal, size))

    return VectorFiles(path, index.ntotal, index.d, ids, read)
