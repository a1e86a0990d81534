"""What stored teachers say about sets of queries: a dual encoder's vectors, or a cross encoder's opinion of each query's candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from distill.files.cache import cache_folder, load_or_compute
from distill.files.device import best_device
from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers.candidates import find_pair_rows
from distill.teachers.stored import StoredPairs, StoredQueries, StoredTeacher
from distill.texts.sources import TextSource
from distill.texts.texts import Texts, concatenate_texts
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore, VectorStore

QuerySets = Sequence[tuple[Texts, str]]  # queries, and the fingerprint of the whole set that was encoded


def open_stored_teacher(store: TeacherStore, sets: QuerySets) -> StoredTeacher:
    """A dual encoder's vectors of sets of queries and of the corpus."""
    stores = [store.queries(texts.name, whole) for texts, whole in sets]
    rows = [find_vector_rows(part, texts) for part, (texts, _) in zip(stores, sets, strict=True)]
    return StoredTeacher(StoredQueries(stores, rows), store.documents)


def open_second_teacher(folder: str, first: TeacherStore, source: TextSource, sets: QuerySets) -> StoredTeacher:
    """Another dual encoder's, whose documents lie as those of the `first` do."""
    store = TeacherStore(folder)
    if not np.array_equal(store.documents.ids.raw, first.documents.ids.raw):
        raise BadInput(f"data.teachers: {folder}: not the documents of {first.folder}, or in another order: encode them again")
    check_documents(store.documents, source)
    return open_stored_teacher(store, sets)


def open_pair_teacher(stores: Sequence[VectorStore], first: TeacherStore, sets: QuerySets, candidates: np.ndarray) -> StoredPairs:
    """A cross encoder's opinion of every query and its candidates [N, K], rows of the documents of `first`."""
    used, place = np.unique(candidates, return_inverse=True)
    ids = np.array([first.documents.ids[row] for row in used], object)[place.reshape(candidates.shape)]  # [N, K]
    parts = np.split(ids, np.cumsum([len(texts) for texts, _ in sets])[:-1])
    rows = [find_pair_rows(store, texts.ids, part) for store, (texts, _), part in zip(stores, sets, parts, strict=True)]
    return StoredPairs(stores, rows, candidates.shape[1])


def load_or_search_top(teacher: StoredTeacher, sets: QuerySets, k: int) -> np.ndarray:
    """[N, k] document rows of a dual encoder's top documents of every query, searched once and kept."""
    key = fingerprint([store.checksums for store in teacher.stores], [texts.fingerprint for texts, _ in sets], k)

    def searched() -> list[np.ndarray]:
        queries = torch.from_numpy(teacher.queries.take(np.arange(len(teacher.queries))))
        return [search(queries.to(best_device()), teacher.documents, k, progress=True)[1].cpu().numpy()]

    return np.asarray(load_or_compute(cache_folder() / "teacher-top" / f"{key}.npy", searched))


def open_evaluation_queries(source: TextSource, store: TeacherStore, split: str) -> tuple[Texts, StoredQueries]:
    """The queries of a split, `dl19+dl20` in that order, and the teacher's vectors of them."""
    parts = [(part, source.queries(part)) for part in split.split("+")]
    stores = [store.queries(part, texts.fingerprint) for part, texts in parts]
    rows = [find_vector_rows(part, texts) for part, (_, texts) in zip(stores, parts, strict=True)]
    return concatenate_texts([texts for _, texts in parts]), StoredQueries(stores, rows)


def find_vector_rows(store: VectorStore, texts: Texts) -> np.ndarray:
    """[N] row of each text in its store; refuses texts without a vector."""
    rows = np.concatenate([store.ids.rows(chunk) for chunk in texts.ids.chunks()])
    if (rows < 0).any():
        missing = texts.ids[int(np.argmax(rows < 0))]
        raise BadInput(f"{store.folder}: no vector of {int((rows < 0).sum())} of {len(texts)} queries, {missing!r} for one: encode them")
    return rows
