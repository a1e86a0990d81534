"""Compares a store of document vectors with the documents of a source, and converts rows of the store to rows of the source."""

from __future__ import annotations

import numpy as np

from distill.records import BadInput
from distill.texts.text_source import TextSource
from distill.vectors.store import VectorStore, check_texts


def check_documents(store: VectorStore, source: TextSource) -> None:
    """Refuses a store whose documents are not the source's; compares ids where the texts are unknown, as of imported vectors."""
    if store.texts is not None:
        check_texts(store, source.documents().fingerprint, f"the documents of {source}")
        return
    if not source.has_documents():
        return
    texts = source.documents()
    unknown = np.concatenate([texts.ids.rows(ids) < 0 for ids in store.ids.chunks()])  # [N]
    if unknown.any():
        id_ = store.ids[int(np.argmax(unknown))]
        raise BadInput(f"{store.folder}: {int(unknown.sum())} of its ids, {id_!r} for one, are no document of {source}: mend either")
    if len(store) < len(texts):
        missing = len(texts) - len(store)
        raise BadInput(f"{store.folder}: no vector of {missing} of the {len(texts)} documents of {source}: import all of them")


def text_rows(store: VectorStore, source: TextSource, rows: np.ndarray) -> np.ndarray:
    """Converts rows of the store to rows of the source's documents; -1 stays -1. Imported vectors may lie in another order."""
    if store.texts is not None:
        return rows
    distinct, place = np.unique(rows, return_inverse=True)
    text_row = source.documents().ids.rows([store.ids[row] for row in distinct])
    return np.where(distinct >= 0, text_row, -1)[place.reshape(rows.shape)]
