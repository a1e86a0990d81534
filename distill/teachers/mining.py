"""`mine`: finds hard negatives, documents that a teacher ranks high for a query although they do not answer it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.files.fingerprints import fingerprint, hash_values
from distill.files.line_shards import LineShardWriter
from distill.files.progress import log, progress_bar
from distill.files.provenance import collect_provenance
from distill.records import BadInput
from distill.teachers.mined import HardNegatives, MinedQuery, read_mined_lines
from distill.teachers.open_stored import open_evaluation_queries
from distill.teachers.stored import StoredQueries
from distill.texts.matching_ids import check_judged_documents
from distill.texts.own_documents import find_own_documents, warn_of_copies
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.resident import keep_corpora
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore, VectorStore

QUERIES_PER_SHARD = 16_384  # large, because the search for each shard reads the whole corpus
DOCUMENTS_PER_READ = 8192
SCORE_DIGITS = 6


@dataclass(frozen=True)
class MiningRule:
    """Decides which top documents of a teacher are hard negatives; `mine` explains each field."""

    negatives: int
    first_rank: int
    last_rank: int
    margin: float

    def __post_init__(self) -> None:
        if self.negatives < 1 or not 1 <= self.first_rank <= self.last_rank:
            ranks = f"first_rank {self.first_rank}, last_rank {self.last_rank}"
            raise BadInput(f"negatives {self.negatives}, {ranks}: ask for at least 1, of ranks that begin at 1 and do not end before")

    def select(self, scores: np.ndarray, positive_scores: np.ndarray, excluded: np.ndarray) -> np.ndarray:
        """Marks the hard negatives of each ranking, the first `negatives` documents that fulfil the rule: True in [Q, k].

        Args:
            scores: [Q, k], best first.
            positive_scores: [Q].
            excluded: [Q, k], True for documents that answer the query.

        >>> rule = MiningRule(negatives=1, first_rank=1, last_rank=3, margin=0.5)
        >>> rule.select(np.array([[9.0, 8.0, 7.0]]), np.array([8.5]), np.array([[False, False, False]])).tolist()
        [[False, True, False]]
        """
        ranks = np.arange(1, scores.shape[1] + 1)
        in_window = (ranks >= self.first_rank) & (ranks <= self.last_rank)
        below_positive = scores <= positive_scores[:, None] - self.margin
        possible = ~excluded & in_window & below_positive
        return possible & (possible.cumsum(axis=1) <= self.negatives)


@dataclass(frozen=True)
class Miner:
    """A judged split of queries, the corpus, and the teacher's vectors of both."""

    source: TextSource
    store: TeacherStore
    split: str
    rule: MiningRule

    @cached_property
    def qrels(self) -> Qrels:
        qrels = self.source.qrels(self.split)
        if qrels is None:
            raise BadInput(f"{self.source}: {self.split!r} has no judgments: a negative is told by the positive it is not")
        return qrels

    @cached_property
    def _queries_and_vectors(self) -> tuple[Texts, StoredQueries]:
        return open_evaluation_queries(self.source, self.store, self.split)

    @property
    def queries(self) -> Texts:
        return self._queries_and_vectors[0]

    @property
    def query_vectors(self) -> StoredQueries:
        return self._queries_and_vectors[1]

    @property
    def stores(self) -> list[VectorStore]:
        return [self.store.documents, *self.query_vectors.stores]

    @cached_property
    def positives(self) -> np.ndarray:
        """[Q] row of each query's best judged document, -1 where the corpus has none."""
        return self.qrels.best_documents(list(self.queries.ids), self.store.documents.ids, self.source.relevant_from)

    @cached_property
    def judged_rows(self) -> np.ndarray:
        """[J] rows of the queries with a positive, the only ones that hard negatives are mined for."""
        return np.flatnonzero(self.positives >= 0)

    @cached_property
    def own_documents(self) -> np.ndarray | None:
        """[Q] row of the document that has each query's id and does not answer it, -1 where there is none; None where no query has one."""
        return find_own_documents(self.source, self.split, self.queries.ids, self.store.documents.ids)

    @cached_property
    def document_hashes(self) -> np.ndarray:
        """[N] uint64, equal for documents with the same words, or where the source has no texts, with the same vector."""
        documents = self.store.documents
        if not self.source.has_documents():
            return hash_values(_read_row_bytes(documents))
        texts = self.source.documents()
        rows = np.concatenate([texts.ids.rows(ids) for ids in documents.ids.chunks()])
        return texts.words_hashes[rows]

    def mine(self, queries: np.ndarray) -> list[MinedQuery]:
        """Mines the hard negatives of the queries with rows [Q], all of which have a positive."""
        documents, positives = self.store.documents, self.positives[queries]
        document_ids = documents.ids  # each time that a store is asked for them, it looks at their files
        vectors = self.query_vectors.take(queries)  # [Q, D]
        positive_scores = _row_products(vectors, documents.take(positives))  # [Q]
        left_out = None if self.own_documents is None else self.own_documents[queries]
        scores, rows = search(vectors, documents, min(self.rule.last_rank, len(documents)), left_out=left_out)  # [Q, k], [Q, k]
        ids = [self.queries.ids[query] for query in queries]
        selected = self.rule.select(scores, positive_scores, self.find_answers(ids, rows) | (rows < 0))
        return [
            MinedQuery(
                query=ids[i],
                positive=document_ids[positives[i]],
                positive_score=round(float(positive_scores[i]), SCORE_DIGITS),
                negatives=[document_ids[row] for row in rows[i][selected[i]]],
                scores=[round(float(score), SCORE_DIGITS) for score in scores[i][selected[i]]],
            )
            for i in range(len(ids))
        ]

    def find_answers(self, query_ids: list[str], rows: np.ndarray) -> np.ndarray:
        """Marks documents with a grade above 0, and documents with the same words as one of these: True in [Q, k]."""
        grades, _ = self.qrels.grade(query_ids, self.store.documents.ids, rows)
        answers = grades > 0
        for i, relevant in enumerate(self._find_relevant_rows(query_ids)):
            answers[i] |= np.isin(self.document_hashes[rows[i]], self.document_hashes[relevant])
        return answers

    def _find_relevant_rows(self, query_ids: list[str]) -> list[np.ndarray]:
        """Finds the rows of the documents with a grade above 0, for each query; documents outside the corpus are left out."""
        relevant = [[document for document, grade in self.qrels.judgments[query].items() if grade > 0] for query in query_ids]
        counts = [len(documents) for documents in relevant]
        ids = [document for documents in relevant for document in documents]
        rows = self.store.documents.ids.rows(ids)  # one look-up for all queries is faster than one for each
        return [part[part >= 0] for part in np.split(rows, np.cumsum(counts)[:-1])]

    def plan(self) -> dict[str, Any]:
        """Returns the inputs that determine the hard negatives."""
        left_out = {} if self.own_documents is None else {"own_documents": fingerprint(self.own_documents[self.judged_rows].tolist())}
        return left_out | {
            "version": 2,  # near copies that differ by punctuation are no negatives
            "split": self.split,
            "rule": asdict(self.rule),
            "queries_per_shard": QUERIES_PER_SHARD,
            "vectors": fingerprint([store.checksums for store in self.stores]),
            "queries": self.queries.fingerprint,
            "judgments": fingerprint(self.qrels.judgments, self.source.relevant_from),
        }


def mine(
    store: str,
    source: TextSource,
    out: str,
    split: str = "train",
    negatives: int = 8,
    first_rank: int = 1,
    last_rank: int = 100,
    margin: float = 0.0,
) -> HardNegatives:
    """Writes each judged query's hard negatives, by exact search over a teacher's store.

    A document with a grade above 0, or with the same words as one, is never a negative, and neither is one with the query's own id, which
    no rank counts, unless the source keeps own documents. A second call after a kill goes on.

    Args:
        store: folder of the teacher's vectors.
        source: where documents, queries and judgments come from.
        out: folder to write: negatives.jsonl and manifest.json.
        split: judged queries to mine for.
        negatives: most negatives for each query; the hardest come first.
        first_rank: first rank in the teacher's list at which a document may be a negative, counted from 1.
        last_rank: last rank at which a document may be a negative.
        margin: least difference between the positive's score and a negative's; a document that scores higher may be an unjudged answer.

    Returns:
        The finished folder and its counts; iterate over it to read the queries.
    """
    miner = Miner(source, TeacherStore(store), split, MiningRule(negatives, first_rank, last_rank, margin))
    check_documents(miner.store.documents, source)
    check_judged_documents(source, split, miner.store.documents.ids)
    for part in miner.stores:
        part.verify()
    shards = -(-len(miner.judged_rows) // QUERIES_PER_SHARD)
    writer = LineShardWriter(Path(out), "negatives", miner.plan(), shards, "hard negatives")
    if writer.finished:
        log.info(f"{writer.file}: done before")
        return HardNegatives.open(out)
    warn_of_copies(source, split)
    with writer.claim():
        write_shards(miner, writer)
        finish_file(miner, writer)
    mined = HardNegatives.open(out)
    skipped = mined.queries_without_a_positive
    log.info(f"{writer.file}: {mined.negatives} hard negatives of {mined.queries} queries; {skipped} more have no positive in the corpus")
    return mined


@keep_corpora()
def write_shards(miner: Miner, writer: LineShardWriter) -> None:
    """Mines the queries whose shards are missing."""
    missing = writer.missing_shards()
    for shard in progress_bar(missing, total=len(missing), desc="mine", unit=" shards"):
        start = shard * QUERIES_PER_SHARD
        mined = miner.mine(miner.judged_rows[start : start + QUERIES_PER_SHARD])
        writer.write_shard(shard, (json.dumps(asdict(query), ensure_ascii=False) + "\n" for query in mined))


def finish_file(miner: Miner, writer: LineShardWriter) -> None:
    """Joins the shards and writes the manifest."""
    writer.write_file(line for _, lines in writer.read_shards() for line in lines)
    counts = [len(query.negatives) for query in read_mined_lines(writer.file)]
    results = {
        "lines": len(counts),
        "hard_negatives": sum(counts),
        "queries_without_a_positive": len(miner.queries) - len(miner.judged_rows),
        "teacher": miner.store.maker.to_json(),
        "provenance": collect_provenance(),
    }
    writer.finish(results)


def _row_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the inner product [Q] of each row of two arrays [Q, D], in float32."""
    return torch.einsum("qd,qd->q", torch.from_numpy(left).float(), torch.from_numpy(right).float()).numpy()


def _read_row_bytes(documents: VectorStore) -> Iterator[bytes]:
    """Yields the bytes of each vector in row order."""
    for start in range(0, len(documents), DOCUMENTS_PER_READ):
        for row in documents[start : start + DOCUMENTS_PER_READ]:
            yield row.tobytes()
