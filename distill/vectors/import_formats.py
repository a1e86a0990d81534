"""Opens vectors that another program wrote, by their file format.

A database is one more case in `open_vectors`, before the path is looked for: VectorFiles of its rows, in an order that does not change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from distill.records import BadInput
from distill.vectors.import_faiss import open_flat_index
from distill.vectors.import_npy import open_npy
from distill.vectors.import_parquet import open_parquet
from distill.vectors.vector_files import GivenIds, VectorFiles

# by the ending of a file; any other file is taken for a faiss index
READERS: dict[str, Callable[..., VectorFiles]] = {".npy": open_npy, ".parquet": open_parquet}


def open_vectors(path: str, ids: GivenIds) -> VectorFiles:
    """Opens `.npy` or `.parquet` files, one or a folder of them, or a faiss index.

    Args:
        path: file or folder.
        ids: text file with an id a line, or a list; for parquet the name of the id column. An index with its own ids (IndexIDMap) needs
            none.

    Raises:
        BadInput: ids are missing, repeated, or not as many as vectors, or the file holds no table of floats.
    """
    files = list_files(Path(path))
    reader = READERS.get(files[0].suffix)
    if reader is open_parquet and not isinstance(ids, str | None):
        raise BadInput(f"{path}: parquet holds the ids of its vectors: give the name of their column instead of a list")
    vectors = open_flat_index(path, ids) if reader is None else reader(path, files, ids)
    file_of_ids = ids if isinstance(ids, str) and reader is not open_parquet else None
    check_ids(vectors, file_of_ids)
    return vectors


def list_files(path: Path) -> list[Path]:
    """Lists the file itself, or a folder's files of the one format that it holds."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(f"{path}: no such file")
    files = {ending: sorted(path.glob(f"*{ending}")) for ending in READERS}
    endings = [ending for ending in files if files[ending]]
    if not endings:
        raise BadInput(f"{path}: no .npy or .parquet file in this folder: name the file or folder of the vectors")
    if len(endings) != 1:
        raise BadInput(f"{path}: a folder of vectors holds .npy or .parquet files, not both: name the file instead")
    [ending] = endings
    if ending == ".npy" and files[ending] != sorted(files[ending], key=_numbered):
        first = next(path for path, other in zip(files[ending], sorted(files[ending], key=_numbered), strict=True) if path != other)
        fix = "write numbers with as many digits, as part-00.npy, in the order of the ids"
        raise BadInput(f"{path}: the order of its files is one by name and another by number, from {first.name} on: {fix}")
    return files[ending]


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Sorts names by the numbers in them: part-2 before part-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]


def check_ids(vectors: VectorFiles, ids: str | None) -> None:
    """Refuses vectors that do not have one id each, and files without vectors; messages name `ids`, where the user gave it."""
    path = vectors.path
    if len(vectors.ids) != vectors.rows:
        counts = f"{vectors.rows} vectors, but {len(vectors.ids)} ids in {ids or 'it'}"
        raise BadInput(f"{path}: {counts}: give one id for every vector, in their order")
    if not vectors.rows or not vectors.width:
        raise BadInput(f"{path}: there is no vector in it")
    rows = vectors.ids.first_duplicate_rows()
    if rows is not None:
        first, second = rows
        taken = f"id {vectors.ids[first]!r} of row {second + 1} is already taken by row {first + 1}"
        raise BadInput(f"{ids or path}: {taken}: ids must be unique")
