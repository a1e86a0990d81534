"""Opens vectors in parquet files, which have a column of lists of floats and a column of ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distill.files.parquet import open_parquet_files, read_batches
from distill.records import BadInput
from distill.texts.ids import ID_NAMES, LONGEST_ID_BYTES, Ids, as_bytes, describe_bad_id
from distill.vectors.vector_files import VectorFiles

IDS_PER_BATCH = 65_536


def open_parquet(path: str, files: list[Path], id_column: str | None) -> VectorFiles:
    """Opens the parquet files in `path`, one after the other.

    Args:
        path: as the user named it.
        files: the files, in the order of their rows.
        id_column: name of the column of ids; None takes the only column of strings or integers, else the first of ID_NAMES that is there.
    """
    tables = open_parquet_files(path, files)
    id_column, vector_column = find_columns(path, tables[0].schema_arrow, id_column)
    for file, table in zip(files, tables, strict=True):
        missing = {id_column, vector_column} - set(table.schema_arrow.names)
        if missing:
            raise BadInput(f"{file}: has no column {missing.pop()!r}, which {files[0].name} has")
    first_lists = _read_column(path, tables, vector_column, 1)
    # of the first vector that is not null; 0 where there is none
    width = next((len(lists[0]) for lists in first_lists if lists[0].is_valid), 0)

    def read(size: int) -> Iterator[np.ndarray]:
        return (lists_to_array(path, lists, width) for lists in _read_column(path, tables, vector_column, size))

    rows = sum(table.metadata.num_rows for table in tables)
    return VectorFiles(path, rows, width, _read_ids(path, tables, id_column), read)


def find_columns(path: str, schema: Any, id_column: str | None) -> tuple[str, str]:
    """Returns the names of the column of ids and of the column of vectors."""
    from pyarrow import types

    vectors = [field.name for field in schema if hasattr(field.type, "value_type") and types.is_floating(field.type.value_type)]
    if len(vectors) != 1:
        raise BadInput(f"{path}: {len(vectors)} columns hold lists of floats among {', '.join(schema.names)}: keep one, the vectors")
    possible = []
    for field in schema:
        if types.is_string(field.type) or types.is_large_string(field.type) or types.is_integer(field.type):
            possible.append(field.name)
    if id_column is None:
        known = possible if len(possible) == 1 else [name for name in ID_NAMES if name in possible]
        id_column = known[0] if known else None
    if id_column is None or id_column not in possible:
        raise BadInput(f"{path}: which column holds the ids? Say --ids with one of {', '.join(possible) or 'none, as it has none'}")
    return id_column, vectors[0]


def _read_column(path: str, tables: list[Any], name: str, size: int) -> Iterator[Any]:
    """Returns Arrow arrays of up to `size` values of a column, of every table in turn."""
    return (batch.column(0) for batch in read_batches(path, tables, [name], size))


def _read_ids(path: str, tables: list[Any], column: str) -> Ids:
    ids = [np.empty(0, "S1")]
    for names in _read_column(path, tables, column, IDS_PER_BATCH):
        if names.null_count:
            raise BadInput(f"{path}: column {column!r} has rows without an id: give every vector one")
        part = [str(name) for name in names.to_pylist()]
        lengths = [len(id_.encode(errors="replace")) for id_ in part]
        bad = next((length for length in lengths if not 0 < length <= LONGEST_ID_BYTES), None)
        if bad is not None:
            raise BadInput(f"{path}: column {column!r} {describe_bad_id(bad)}: name the column of ids with --ids")
        ids.append(as_bytes(part))
    return Ids(np.concatenate(ids))


def lists_to_array(path: str, lists: Any, width: int) -> np.ndarray:
    """Converts an Arrow array of n lists to an array [n, width]; refuses lists of another length."""
    numbers = lists.flatten()
    same_width = len(numbers) == len(lists) * width and not lists.null_count and not numbers.null_count
    if same_width and hasattr(lists, "value_lengths"):
        same_width = bool((lists.value_lengths().to_numpy(zero_copy_only=False) == width).all())
    if not same_width:
        raise BadInput(f"{path}: not every vector is {width} numbers, as the first is: embed the others again")
    return numbers.to_numpy(zero_copy_only=False).reshape(-1, width)
