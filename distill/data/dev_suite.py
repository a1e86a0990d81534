"""Collections of other domains that a student is measured on during training, beside its own dev split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from distill.files.fingerprints import fingerprint
from distill.teachers.cached import embed_into_cache, load_store_teacher
from distill.teachers.open_stored import open_evaluation_queries
from distill.texts.own_documents import find_own_documents
from distill.texts.qrels import Qrels
from distill.texts.suite import SPLIT, open_collections
from distill.texts.texts import Texts
from distill.vectors.sharded import search_on_ranks
from distill.vectors.store import TeacherStore, VectorStore


@dataclass(frozen=True)
class DevCollection:
    """One collection with the teacher's vectors of it.

    Attributes:
        name: of its folder.
        queries: its Q queries.
        teacher_queries: [Q, D] the teacher's vectors of them.
        documents: the teacher's vectors of its documents.
        qrels: its judgments.
        relevant_from: lowest grade that MRR and recall count as relevant.
        own_documents: [Q] row of the document that each query leaves out of its ranking, -1 for none; None where no query does.
    """

    name: str
    queries: Texts
    teacher_queries: np.ndarray
    documents: VectorStore
    qrels: Qrels
    relevant_from: int
    own_documents: np.ndarray | None

    def rank_documents(self, rows: np.ndarray, vectors: Tensor, k: int) -> np.ndarray:
        """Returns the k documents [n, k] nearest to the vectors [n, D] of the queries in `rows` [n]; -1 stands for none.

        Every rank must call it, with queries of its own.
        """
        left_out = None if self.own_documents is None else self.own_documents[rows]
        return search_on_ranks(vectors, self.documents, min(k, len(self.documents)), left_out)[1].cpu().numpy()


def open_dev_suite(folders: Sequence[str], store: TeacherStore) -> list[DevCollection]:
    """Opens the collections of a suite, embedded by the model that made the store; it embeds them once, into the cache.

    Args:
        folders: folders in BEIR or MS MARCO layout, or folders of such folders.
        store: the teacher's store.

    Raises:
        BadInput: a folder is no collection, or the teacher's model is not here.
    """
    if not folders:
        return []
    collections = open_collections(folders, option="data.dev_suite")
    embedder = load_store_teacher(store)
    opened = []
    for name, source in collections.items():
        vectors = embed_into_cache(embedder, source, SPLIT)
        queries, teacher = open_evaluation_queries(source, vectors, SPLIT)
        ids = vectors.documents.ids
        own = find_own_documents(source, SPLIT, queries.ids, ids)
        all_queries = teacher.take(np.arange(len(queries)))
        qrels = source.qrels(SPLIT) or Qrels({})
        opened.append(DevCollection(name, queries, all_queries, vectors.documents, qrels, source.relevant_from, own))
    return opened


def fingerprint_dev_suite(collections: Sequence[DevCollection]) -> dict[str, str]:
    """Fingerprints of the queries and judgments of each collection, by which a training chooses its checkpoint."""
    judged = {collection.name: (collection.queries.content_fingerprint, collection.qrels.judgments) for collection in collections}
    return {f"{name}, queries and judgments": fingerprint(*parts) for name, parts in judged.items()}
