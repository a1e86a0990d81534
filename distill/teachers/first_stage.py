"""First-stage retrieval: the documents that a TREC run file or a stored dual encoder ranks highest, for another model to re-rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.files.cache import cache_folder, load_or_compute
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.matching_ids import check_run
from distill.texts.own_documents import drop_own_documents, find_own_documents
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents, text_rows
from distill.vectors.store import TeacherStore, VectorStore


def retrieve_first_stage(first_stage: str, source: TextSource, split: str, queries: Texts, k: int) -> np.ndarray:
    """Finds the documents that a first stage ranks highest for each query; the query's own document is left out.

    Args:
        first_stage: TREC run file, or folder of a dual encoder's store.
        source: where documents and queries come from.
        split: split of the queries, e.g. dev, or dl19+dl20.
        queries: Q queries.
        k: number of documents for each query.

    Returns:
        [Q, k] rows of the corpus, best first; rows of -1 are padding.
    """
    if Path(first_stage).is_dir():
        return retrieve_from_store(first_stage, source, split, queries, k)
    run = drop_own_documents(source, split, read_trec(Path(first_stage)), first_stage)
    return run_to_rows(run, queries, source.documents().ids, k, first_stage)


def retrieve_from_store(folder: str, source: TextSource, split: str, queries: Texts, k: int) -> np.ndarray:
    """Finds the rows [Q, k] of each query's top documents by exact search over a dual encoder's store; a repeated search is cached.

    The query's own document is left out. Rows of -1 are padding, where there are fewer than k others.
    """
    store = TeacherStore(folder)
    check_documents(store.documents, source)
    parts = [store.queries(part, source.queries(part).fingerprints("query")) for part in split.split("+")]
    own_rows = find_own_documents(source, split, queries.ids, store.documents.ids)
    inputs = [[part.checksums for part in [store.documents, *parts]], queries.fingerprint, k]
    key = fingerprint(*inputs, *([] if own_rows is None else [own_rows.tolist()]))

    def search_top() -> list[np.ndarray]:
        _, rows = search(take_by_id(parts, queries.ids, split), store.documents, k, progress=True, left_out=own_rows)
        return [rows]

    rows = np.asarray(load_or_compute(cache_folder() / "teacher-top" / f"{key}.npy", search_top))
    return text_rows(store.documents, source, rows)


def take_by_id(stores: Sequence[VectorStore], ids: Ids, split: str) -> np.ndarray:
    """Looks up the vectors [Q, D] float16 of queries by id, in several stores; refuses a query that none of them has."""
    vectors = np.empty((len(ids), stores[0].width), np.float16)
    missing = np.ones(len(ids), bool)
    for store in stores:
        rows = store.ids.rows(list(ids))
        vectors[rows >= 0] = store.take(rows[rows >= 0])
        missing &= rows < 0
    if missing.any():
        raise BadInput(f"{stores[0].folder.parent}: no vector of {int(missing.sum())} queries of {split}: encode them")
    return vectors


def run_to_rows(run: dict[str, list[tuple[str, float]]], queries: Texts, corpus: Ids, k: int, path: str) -> np.ndarray:
    """Returns a run's first documents of each query: [Q, k] rows of the corpus; rows of -1 are padding.

    Args:
        run: documents and their scores by query id, best first.
        queries: Q queries.
        corpus: ids of the documents.
        k: number of documents for each query.
        path: path of the run, for messages.

    Raises:
        BadInput: a document is not in the corpus, or no query is in the run.
    """
    rows = np.full((len(queries), k), -1, np.int64)
    for query, id_ in enumerate(queries.ids):
        documents = [document for document, _ in run.get(id_, [])[:k]]
        document_rows = corpus.rows(documents)
        if (document_rows < 0).any():
            unknown = documents[int(np.argmax(document_rows < 0))]
            other = f", where {corpus[0]!r} is one" if len(corpus) else ""
            raise BadInput(f"{path}: query {id_!r}: document {unknown!r} is not in the corpus{other}: wrong texts?")
        rows[query, : len(documents)] = document_rows
    check_run(path, run, list(queries.ids), rows, corpus)
    return rows


def fingerprint_first_stage(first_stage: str) -> str:
    """Returns the fingerprint of a TREC run file, or of the teacher that wrote a store."""
    if Path(first_stage).is_file():
        return file_fingerprint(Path(first_stage))
    return TeacherStore(first_stage).maker.fingerprint
