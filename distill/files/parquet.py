"""Opens parquet files and reads columns of them in batches; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.files.atomic import refuse_unreadable
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
        raise BadInput(f"{path}: parquet is read by pyarrow, which is not installed: pip install 'distill[parquet]'") from None
    try:
        with refuse_unreadable("a parquet file", path):
            return [parquet.ParquetFile(file) for file in files]
    except OSError as error:
        raise BadInput(f"{path}: not a whole parquet file ({one_line(error)}): write it again") from None


def read_batches(path: str | Path, tables: Sequence[Any], columns: list[str], size: int) -> Iterator[Any]:
    """Yields record batches of up to `size` rows of some columns, of every table in turn."""
    with refuse_unreadable("a parquet file", path):
        for table in tables:
            yield from table.iter_batches(size, columns=columns)
