"""The documents that a cross encoder scores for each query, and the rows of these scores in a store.

A store of pairs, `pairs-SPLIT/`, is a VectorStore: ids are `query<TAB>document`, rows are the score, then the pooled query and document.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from distill.encoders.tokenizing import Role
from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers.first_stage import retrieve_first_stage
from distill.teachers.negatives import JudgedQueries, MinedNegatives
from distill.texts.ids import Ids
from distill.texts.matching_ids import check_judged_documents
from distill.texts.own_documents import leave_out_own_ids
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.store import VectorStore, check_texts

TAB = "\t"


class PairTexts:
    """Pairs of a query and a candidate document as texts to encode: all pairs of the first query come first, then those of the second.

    Args:
        queries: Q queries.
        documents: the corpus.
        candidates: [Q, K] rows of the corpus; rows of -1 are padding.

    Raises:
        BadInput: an id has a tab in it, or a query has a document twice.
    """

    def __init__(self, queries: Texts, documents: Texts, candidates: np.ndarray):
        self.queries, self.documents = queries, documents
        self.query_rows, column = np.nonzero(candidates >= 0)  # [P], [P]
        self.document_rows = candidates[self.query_rows, column]  # [P]
        query_ids, document_ids = queries.ids.raw[self.query_rows], documents.ids.raw[self.document_rows]
        _refuse_tabs(query_ids)
        _refuse_tabs(document_ids)
        self.ids = Ids(np.char.add(np.char.add(query_ids, TAB.encode()), document_ids))
        duplicate = self.ids.first_duplicate()
        if duplicate is not None:
            query, document = duplicate.split(TAB)
            raise BadInput(f"candidates: query {query!r} has the document {document!r} twice: list it once")

    def __len__(self) -> int:
        return len(self.query_rows)

    def fingerprints(self, role: Role) -> tuple[str, ...]:
        """Returns the fingerprints by which a store may know these pairs, the one to record first; they have one role only."""
        return pairs_fingerprints(self.queries, self.documents)

    def read(self, rows: Sequence[int] | np.ndarray) -> list[tuple[str, str]]:
        """Reads the query and the document of several pairs."""
        queries, documents = self.queries.read(self.query_rows[rows]), self.documents.read(self.document_rows[rows])
        return list(zip(queries, documents, strict=True))


def _refuse_tabs(ids: np.ndarray) -> None:
    """Refuses ids with a tab in them: a tab separates the two ids in the id of a pair."""
    has_tab = np.char.find(ids, TAB.encode()) >= 0
    if has_tab.any():
        raise BadInput(f"candidates: the id {Ids(ids)[int(np.argmax(has_tab))]!r} has a tab in it: rename it")


def pairs_fingerprints(queries: Texts, documents: Texts) -> tuple[str, ...]:
    """Returns the fingerprints of the texts of pairs, the one to record first. A store records the fingerprint of the ids separately."""
    return tuple(fingerprint(name, documents.fingerprint) for name in queries.fingerprints("query"))


def find_candidates(name: str, source: TextSource, split: str, k: int) -> np.ndarray:
    """Finds the documents to score for each query of a split; the positive of a judged query comes first, its own document is left out.

    Args:
        name: mined negatives (a folder or a file), a TREC run file, or a dual encoder's store.
        source: where documents, queries and judgments come from.
        split: split of the queries.
        k: number of documents for each query, including the positive.

    Returns:
        [Q, at most k] rows of the corpus; rows of -1 are padding.
    """
    path = Path(name) / "negatives.jsonl" if Path(name).is_dir() else Path(name)
    if path.suffix == ".jsonl" and path.is_file():
        return read_mined_candidates(path, source, split, k)
    queries, qrels, corpus = source.queries(split), source.qrels(split), source.documents().ids
    check_judged_documents(source, split, corpus)
    top = retrieve_first_stage(name, source, split, queries, k)
    if qrels is None:
        return top
    return put_positive_first(qrels.best_documents(list(queries.ids), corpus, source.relevant_from), top)


def read_mined_candidates(path: Path, source: TextSource, split: str, k: int) -> np.ndarray:
    """Returns the positive and the negatives of each query's line: [Q, at most k] rows of the corpus; rows of -1 are padding."""
    queries, corpus = source.queries(split), source.documents().ids
    judged = JudgedQueries(source, split, queries, source.qrels(split) or Qrels({}, split), corpus)
    pairs = MinedNegatives(str(path)).select_pairs(judged)
    duplicate = Ids(queries.ids.raw[pairs.queries]).first_duplicate()
    if duplicate is not None:
        raise BadInput(f"{path}: query {duplicate!r} has several lines: keep one of them")
    candidates = np.concatenate([pairs.positives[:, None], pairs.pools], axis=1)[:, :k]
    rows = np.full((len(queries), candidates.shape[1]), -1, np.int64)
    rows[pairs.queries] = candidates
    return rows


def put_positive_first(positives: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Moves the positive [N] of each row to the front of `top` [N, K]; -1 marks a row without a positive.

    >>> put_positive_first(np.array([7, -1]), np.array([[4, 7, 5], [4, 7, 5]])).tolist()
    [[7, 4, 5], [4, 7, 5]]
    """
    positives, k = positives[:, None], top.shape[1]
    # a stable sort moves the positive to the end and leaves the order of the others; the cut to K columns then drops it there
    order = np.argsort(top == positives, axis=1, kind="stable")
    others = np.take_along_axis(top, order, axis=1)
    return np.where(positives >= 0, np.concatenate([positives, others], axis=1)[:, :k], top)


def read_scored_candidates(store: VectorStore, k: int, source: TextSource | None = None, split: str = "") -> dict[str, list[str]]:
    """Returns the ids of the first `k` scored documents by query id, in the order of the store; queries with fewer are left out.

    Stores of earlier releases may have scores of a query's own document, which is left out.

    Args:
        store: scores of the pairs of a split.
        k: number of documents for each query.
        source: where the queries come from; None leaves no document out.
        split: their split.
    """
    documents_of: dict[str, list[str]] = {}
    for id_ in store.ids:
        query, _, document = id_.partition(TAB)
        documents_of.setdefault(query, []).append(document)
    if source is not None:
        documents_of = leave_out_own_ids(source, split, documents_of)
    return {query: documents[:k] for query, documents in documents_of.items() if len(documents) >= k}


def find_pair_rows(store: VectorStore, queries: Iterable[str], candidates: Iterable[Sequence[str]]) -> np.ndarray:
    """Finds the rows [N * K] of the pairs of N queries and their K candidates, given by id; refuses a pair without a score."""
    ids = [query + TAB + document for query, documents in zip(queries, candidates, strict=True) for document in documents]
    rows = store.ids.rows(ids)
    if (rows < 0).any():
        query, _, document = ids[int(np.argmax(rows < 0))].partition(TAB)
        raise BadInput(f"{store.folder}: no score of query {query!r} and document {document!r}: encode the same candidates")
    return rows


def open_pair_stores(folder: str, source: TextSource, split: str) -> list[VectorStore]:
    """Opens a cross encoder's store of each part of a split; refuses stores of other texts, and stores by different cross encoders."""
    stores: list[VectorStore] = []
    for part in split.split("+"):
        store = VectorStore(Path(folder) / f"pairs-{part}")
        if store.width % 2 == 0:
            raise BadInput(f"{store.folder}: {store.width} numbers a pair: not a score, or a score and two vectors: encode it again")
        check_texts(store, pairs_fingerprints(source.queries(part), source.documents()), f"the pairs of {part!r}")
        stores.append(store)
        if store.maker.fingerprint != stores[0].maker.fingerprint:
            raise BadInput(f"{store.folder}: by another cross encoder than {stores[0].folder}: encode one of them into another --out")
    return stores


def has_pairs(folder: str | Path) -> bool:
    """Tells whether a folder holds a cross encoder's stores."""
    return any(Path(folder).glob("pairs-*"))
