"""`distill import`: vectors that already exist, into a store."""

from __future__ import annotations

from typing import Any

from distill.teachers.import_vectors import import_vectors


def import_with_model(vectors: str, out: str, teacher: str | None = None, **options: Any) -> object:
    """Writes vectors that already exist into a store: the documents first, then each set of queries; the model itself is not needed.

    Everything is checked before anything is written. Run again after a kill it goes on with the missing shards.

    Args:
        vectors: .npy or .parquet file, a folder of either, or a flat faiss index.
        out: store folder to write.
        teacher: the model that made the vectors, as of encode: folder or hub name, or a server's address with --model. It embeds 256 of the
            --source's texts; vectors that it would not have written are refused. Then encode can add queries to the store.
    """
    return import_vectors(vectors, out, teacher=teacher, **options)  # a function is a teacher in Python alone


def show(store: object) -> None:
    """Nothing: what was written is logged."""


FUNCTION = import_with_model
