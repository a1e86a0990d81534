"""Which documents each query is scored against, and a cross encoder's stored opinion of them.

A store of pairs, `pairs-SPLIT/`, is a VectorStore: ids are `query<TAB>document`, rows are the score, then the pooled query and document.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers.first_stage import read_first_stage
from distill.teachers.negatives import JudgedQueries, MinedNegatives
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.store import VectorStore, check_texts

TAB = "\t"


class PairTexts:
    """The pairs of each query and its candidates as texts to encode: query after query, its candidates in their order.

    Args:
        queries: Q queries.
        documents: the corpus.
        candidates: [Q, K] rows of the corpus, -1 where a query has fewer.
    """

    def __init__(self, queries: Texts, documents: Texts, candidates: np.ndarray):
        self.queries, self.documents = queries, documents
        self.query_rows, column = np.nonzero(candidates >= 0)  # [P], [P]
        self.document_rows = candidates[self.query_rows, column]  # [P]
        query_ids, document_ids = queries.ids.raw[self.query_rows], documents.ids.raw[self.document_rows]
        for ids in (query_ids, document_ids):
            if (tabs := np.char.find(ids, TAB.encode()) >= 0).any():  # JSON allows it; a pair could not be told apart
                raise BadInput(f"candidates: the id {Ids(ids)[int(np.argmax(tabs))]!r} has a tab in it: rename it")
        self.ids = Ids(np.char.add(np.char.add(query_ids, TAB.encode()), document_ids))
        if twice := self.ids.first_duplicate():
            raise BadInput("candidates: query {!r} has the document {!r} twice: list it once".format(*twice.split(TAB)))

    def __len__(self) -> int:
        return len(self.query_rows)

    @property
    def fingerprint(self) -> str:
        return pairs_fingerprint(self.queries, self.documents)

    def read(self, rows: Sequence[int] | np.ndarray) -> list[tuple[str, str]]:
        queries, documents = self.queries.read(self.query_rows[rows]), self.documents.read(self.document_rows[rows])
        return list(zip(queries, documents, strict=True))


def pairs_fingerprint(queries: Texts, documents: Texts) -> str:
    """Of the texts that pairs are made of; a store records their ids beside it."""
    return fingerprint(queries.fingerprint, documents.fingerprint)


def read_candidates(name: str, source: TextSource, split: str, k: int) -> np.ndarray:
    """[Q, k] rows of the corpus for the queries of a split, -1 where there are fewer; a judged query's positive stands first.

    `name` is mined negatives (a folder or a file), a TREC run file, or a dual encoder's store.
    """
    queries, qrels, corpus = source.queries(split), source.qrels(split), source.documents().ids
    mined = Path(name) / "negatives.jsonl" if Path(name).is_dir() else Path(name)
    if mined.suffix == ".jsonl" and mined.is_file():
        examples = MinedNegatives(str(mined)).examples(JudgedQueries(source, split, queries, qrels or Qrels({}, split), corpus))
        if twice := Ids(queries.ids.raw[examples.queries]).first_duplicate():
            raise BadInput(f"{mined}: query {twice!r} has several lines: keep one of them")
        found = np.concatenate([examples.positives[:, None], examples.pools], axis=1)[:, :k]
        rows = np.full((len(queries), found.shape[1]), -1, np.int64)
        rows[examples.queries] = found
        return rows
    positives = np.full(len(queries), -1) if qrels is None else qrels.best_documents(list(queries.ids), corpus, source.relevant_from)
    return put_positive_first(positives, read_first_stage(name, source, split, queries, k))


def put_positive_first(positives: np.ndarray, top: np.ndarray) -> np.ndarray:
    """[N, K] rows: the positive [N], where it is not -1, then the others of `top` [N, K] in their order."""
    positives, k = positives[:, None], top.shape[1]
    # the positive leaves its place among the others, then leads the row; a stable sort keeps the others' order
    later = np.argsort(top == positives, axis=1, kind="stable")
    others = np.take_along_axis(top, later, axis=1)
    return np.where(positives >= 0, np.concatenate([positives, others], axis=1)[:, :k], top)


def read_scored_candidates(store: VectorStore, k: int) -> dict[str, list[str]]:
    """The first `k` scored documents of each query that has so many, by id, in the order they were scored in."""
    found: dict[str, list[str]] = {}
    for id_ in store.ids:
        query, _, document = id_.partition(TAB)
        found.setdefault(query, []).append(document)
    return {query: documents[:k] for query, documents in found.items() if len(documents) >= k}


def find_pair_rows(store: VectorStore, queries: Iterable[str], candidates: Iterable[Sequence[str]]) -> np.ndarray:
    """[N * K] rows of the pairs of N queries and the K candidates of each, by id; refuses a pair that was not scored."""
    ids = [query + TAB + document for query, documents in zip(queries, candidates, strict=True) for document in documents]
    rows = store.ids.rows(ids)
    if (rows < 0).any():
        query, _, document = ids[int(np.argmax(rows < 0))].partition(TAB)
        raise BadInput(f"{store.folder}: no score of query {query!r} and document {document!r}: encode the same candidates")
    return rows


def open_pair_stores(folder: str, source: TextSource, split: str) -> list[VectorStore]:
    """A cross encoder's opinion of each part of a split; refuses that of other texts, and that of two cross encoders."""
    stores: list[VectorStore] = []
    for part in split.split("+"):
        store = VectorStore(Path(folder) / f"pairs-{part}")
        if store.width % 2 == 0:
            raise BadInput(f"{store.folder}: {store.width} numbers a pair: not a score, or a score and two vectors: encode it again")
        check_texts(store, pairs_fingerprint(source.queries(part), source.documents()), f"the pairs of {part!r}")
        if store.maker.fingerprint != (stores or [store])[0].maker.fingerprint:
            raise BadInput(f"{store.folder}: by another cross encoder than {stores[0].folder}: encode one of them into another --out")
        stores.append(store)
    return stores


def holds_pairs(folder: str) -> bool:
    return any(Path(folder).glob("pairs-*"))
