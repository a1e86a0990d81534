"""Opens parquet files and reads columns of them in batches; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.files.atomic import refuse_unreadable
from distill.files.extras import install_hint
from distill.records import BadInput, one_line


def open_parquet_files(path: str | Path, files: Sequence[Path]) -> list[Any]:
    """Opens parquet files as pyarrow's `ParquetFile`s.

    Args:
        path: as the user named it, for messages.
        files: the files.

    Raises:
        BadInput: pyarrow is not installed, or a file is not a whole parquet file.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise BadInput(f"{path}: parquet is read by pyarrow, which is not installed: {install_hint('parquet')}") from None
    with _refuse_damaged(path):
        return [parquet.ParquetFile(file) for file in files]


def read_batches(path: str | Path, tables: Sequence[Any], columns: list[str], size: int) -> Iterator[Any]:
    """Yields record batches of up to `size` rows of some columns, of every table in turn."""
    with _refuse_damaged(path):
        for table in tables:
            yield from table.iter_batches(size, columns=columns)


def read_records(path: Path, columns: list[str], size: int = 1024) -> Iterator[dict[str, Any]]:
    """Yields the values of some columns of a file, row by row; `size` rows at a time are in memory."""
    batches = read_batches(path, open_parquet_files(path, [path]), columns, size)
    with _refuse_damaged(path):
        for batch in batches:
            yield from batch.to_pylist()


@contextmanager
def _refuse_damaged(path: str | Path) -> Iterator[None]:
    """Turns an error of the block, which reads `path`, into a BadInput."""
    try:
        with refuse_unreadable("a parquet file", path):
            yield
    except OSError as error:
        raise BadInput(f"{path}: not a whole parquet file ({one_line(error)}): write it again") from None
