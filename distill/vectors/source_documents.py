"""Compares a store of document vectors with the documents of a source, and converts rows of the store to rows of the source."""

from __future__ import annotations

import numpy as np

from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.store import VectorStore, check_texts


def check_documents(store: VectorStore, source: TextSource) -> None:
    """Refuses a store whose documents are not the source's; compares ids where the texts are unknown, as of imported vectors."""
    if not source.has_documents():
        return
    if store.texts is not None:
        role = store.maker.role or "document"  # queries, where a collection without documents searches these
        check_texts(store, source.documents().fingerprints(role), f"the documents of {source}")
        return
    check_document_ids(store.ids, source, str(store.folder))


def check_document_ids(ids: Ids, source: TextSource, name: str) -> None:
    """Refuses ids of vectors, those of the file or store `name`, that are not those of the source's documents, in whichever order."""
    texts = source.documents()
    unknown = np.concatenate([texts.ids.rows(part) < 0 for part in ids.chunks()])  # [N]
    if unknown.any():
        id_ = ids[int(np.argmax(unknown))]
        documents = f"{source}, where {texts.ids[0]!r} is one" if len(texts) else str(source)
        raise BadInput(f"{name}: {int(unknown.sum())} of its ids, {id_!r} for one, are no document of {documents}: mend either")
    if len(ids) < len(texts):
        missing = len(texts) - len(ids)
        raise BadInput(f"{name}: no vector of {missing} of the {len(texts)} documents of {source}: import all of them")


def check_query_ids(ids: Ids, texts: Texts, name: str) -> None:
    """Refuses ids of vectors, those of the file `name`, that leave out a query; others may be among them."""
    missing = np.concatenate([ids.rows(part) < 0 for part in texts.ids.chunks()])  # [Q]
    if missing.any():
        id_ = texts.ids[int(np.argmax(missing))]
        example = f"{id_!r} for one, while it has {ids[0]!r}" if len(ids) else f"{id_!r} for one"
        raise BadInput(f"{name}: no vector of {int(missing.sum())} of {len(texts)} queries, {example}: import all of them")


def text_rows(store: VectorStore, source: TextSource, rows: np.ndarray) -> np.ndarray:
    """Converts rows of the store to rows of the source's documents; -1 stays -1. Imported vectors may lie in another order."""
    if store.texts is not None:
        return rows
    distinct, place = np.unique(rows, return_inverse=True)
    ids = store.ids
    text_row = source.documents().ids.rows([ids[row] for row in distinct])
    return np.where(distinct >= 0, text_row, -1)[place.reshape(rows.shape)]
