"""Opens stored teachers for sets of queries: a dual encoder's vectors, or a cross encoder's scores of each query's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from distill.encoders.maker import Maker
from distill.encoders.towers import is_available, load_maker
from distill.files.cache import cache_folder, load_or_compute
from distill.files.device import best_device
from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers.candidates import find_pair_rows, has_pairs, open_pair_stores
from distill.teachers.run_scores import RunScores, is_run, open_run_scores
from distill.teachers.stored import StoredPairs, StoredQueries, StoredTeacher
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts, concatenate_texts
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore, VectorStore, check_texts

DOCUMENTS = "documents of the corpus"  # name of the set of documents that are learnt as queries are; no file has it


class QuerySet(NamedTuple):
    """Queries to look up in a store, all or some of an encoded set."""

    texts: Texts
    fingerprints: tuple[str, ...]  # of the whole encoded set, as `Texts.fingerprints` returns them


def open_stored_teacher(store: TeacherStore, sets: Sequence[QuerySet]) -> StoredTeacher:
    """Opens a dual encoder's vectors of sets of queries and of the corpus."""
    stores = [open_vectors(store, texts, fingerprints) for texts, fingerprints in sets]
    rows = [find_vector_rows(part, texts) for part, (texts, _) in zip(stores, sets, strict=True)]
    return StoredTeacher(StoredQueries(stores, rows), store.documents)


def open_vectors(store: TeacherStore, texts: Texts, fingerprints: tuple[str, ...]) -> VectorStore:
    """Opens the vectors of a set of queries, or those of the documents where these are learnt as queries are."""
    if texts.name != DOCUMENTS:
        return store.queries(texts.name, fingerprints)
    check_texts(store.documents, fingerprints, "the documents")
    return store.documents


def refuse_unlike_roles(maker: Maker) -> None:
    """Refuses a teacher whose vectors of documents are not those that it would give the same texts as queries."""
    fix = "leave data.match_documents out"
    if not is_available(maker):
        raise BadInput(f"data.match_documents: {maker.name} is not here, so whether it embeds documents as queries cannot be seen: {fix}")
    towers = load_maker(maker)
    prompts = towers.query.settings.prompts
    if not towers.shared or prompts["query"] != prompts["document"]:
        raise BadInput(f"data.match_documents: {maker.name}: embeds documents with a prompt or a tower of their own: {fix}")


def open_further_teacher(
    name: str, folder: str, first: TeacherStore, source: TextSource, split: str, sets: Sequence[QuerySet], candidates: np.ndarray
) -> StoredPairs | StoredTeacher | RunScores:
    """Opens the teacher that `data.teachers` names: a cross encoder's stores of pairs, a dual encoder's store, or a TREC run file.

    Args:
        name: what the user calls it.
        folder: of the stores, or the run file.
        first: the store that has the candidates as documents.
        source: where queries and documents come from.
        split: split of the queries.
        sets: sets of N queries in all.
        candidates: [N, K] rows of the documents of `first`.
    """
    if folder.lstrip().startswith("{"):  # the command line leaves a text where it could not make an object of it
        fix = "name a folder, or the class_path and init_args of a class derived from Teacher"
        raise BadInput(f"data.teachers: {name}: {folder}: not a teacher: {fix}")
    if not Path(folder).exists():
        raise BadInput(f"data.teachers: {name}: {folder}: no such file or folder")
    if is_run(folder):
        ids = np.concatenate(name_candidates(first, sets, candidates))
        return open_run_scores(folder, [id_ for texts, _ in sets for id_ in texts.ids], ids)
    if has_pairs(folder):
        return open_pair_teacher(open_pair_stores(folder, source, split), first, sets, candidates)
    return open_second_teacher(folder, first, source, sets)


def lists_candidates(teacher: Any) -> bool:
    """Tells whether a teacher has scored certain documents of each query: the name of stores of pairs or of a run file."""
    return isinstance(teacher, str) and (has_pairs(teacher) or is_run(teacher))


def open_second_teacher(folder: str, first: TeacherStore, source: TextSource, sets: Sequence[QuerySet]) -> StoredTeacher:
    """Opens the vectors of a further dual encoder, whose documents must be those of `first` in the same order."""
    store = TeacherStore(folder)
    if not np.array_equal(store.documents.ids.raw, first.documents.ids.raw):
        raise BadInput(f"data.teachers: {folder}: not the documents of {first.folder}, or in another order: encode them again")
    check_documents(store.documents, source)
    if any(texts.name == DOCUMENTS for texts, _ in sets):
        refuse_unlike_roles(store.maker)
    return open_stored_teacher(store, sets)


def open_pair_teacher(stores: Sequence[VectorStore], first: TeacherStore, sets: Sequence[QuerySet], candidates: np.ndarray) -> StoredPairs:
    """Opens a cross encoder's scores of every query and its candidates.

    Args:
        stores: stores of pairs, one for each set.
        first: the store that has the candidates as documents.
        sets: sets of N queries in all.
        candidates: [N, K] rows of the documents of `first`.
    """
    ids_by_set = name_candidates(first, sets, candidates)
    rows = [find_pair_rows(store, texts.ids, part) for store, (texts, _), part in zip(stores, sets, ids_by_set, strict=True)]
    return StoredPairs(stores, rows, candidates.shape[1])


def name_candidates(first: TeacherStore, sets: Sequence[QuerySet], candidates: np.ndarray) -> list[np.ndarray]:
    """Returns the ids of the candidates [N, K], an array [n, K] for each set of n queries."""
    used, place = np.unique(candidates, return_inverse=True)
    document_ids = first.documents.ids
    ids = np.array([document_ids[row] for row in used], object)[place.reshape(candidates.shape)]  # [N, K]
    return np.split(ids, np.cumsum([len(texts) for texts, _ in sets])[:-1])


def load_or_search_top(teacher: StoredTeacher, sets: Sequence[QuerySet], k: int, left_out: np.ndarray | None = None) -> np.ndarray:
    """Returns the rows [N, k] of a dual encoder's top documents for every query; reads them from the cache after the first search.

    Args:
        teacher: vectors of N queries and of the documents.
        sets: the queries.
        k: number of documents for each query.
        left_out: [N] row of a document that is not to be found for each query, -1 for none; None for no query.
    """
    inputs = [[store.checksums for store in teacher.stores], [texts.fingerprint for texts, _ in sets], k]
    key = fingerprint(*inputs, *([] if left_out is None else [left_out.tolist()]))

    def search_top() -> list[np.ndarray]:
        queries = torch.from_numpy(teacher.queries.take(np.arange(len(teacher.queries))))
        _, rows = search(queries.to(best_device()), teacher.documents, k, progress=True, left_out=left_out)
        return [rows.cpu().numpy()]

    return np.asarray(load_or_compute(cache_folder() / "teacher-top" / f"{key}.npy", search_top))


def open_evaluation_queries(source: TextSource, store: TeacherStore, split: str) -> tuple[Texts, StoredQueries]:
    """Opens the queries of a split and the teacher's vectors of them; for `dl19+dl20` those of dl19 come first."""
    parts = [(part, source.queries(part)) for part in split.split("+")]
    stores = [store.queries(part, texts.fingerprints("query")) for part, texts in parts]
    rows = [find_vector_rows(part, texts) for part, (_, texts) in zip(stores, parts, strict=True)]
    return concatenate_texts([texts for _, texts in parts]), StoredQueries(stores, rows)


def find_vector_rows(store: VectorStore, texts: Texts) -> np.ndarray:
    """Returns the row [N] of each text in its store; refuses texts without a vector."""
    rows = np.concatenate([store.ids.rows(chunk) for chunk in texts.ids.chunks()])
    missing = rows < 0
    if missing.any():
        first = texts.ids[int(np.argmax(missing))]
        raise BadInput(f"{store.folder}: no vector of {int(missing.sum())} of {len(texts)} queries, {first!r} for one: encode them")
    return rows
