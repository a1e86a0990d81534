"""`distill mine`: hard negatives, the documents that a teacher ranks high for a query that they do not answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.files.device import best_device
from distill.files.fingerprints import fingerprint, hash_values
from distill.files.line_shards import LineShardWriter
from distill.files.progress import progress_bar
from distill.files.provenance import collect_provenance
from distill.records import BadInput
from distill.teachers.mined import MinedQuery, read_mined_lines
from distill.teachers.open_stored import open_evaluation_queries
from distill.teachers.stored import StoredQueries
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore

QUERIES_PER_SHARD = 16_384  # every shard reads the whole corpus once


@dataclass(frozen=True)
class MiningRule:
    """Which of the documents that a teacher found count as hard negatives."""

    negatives: int
    first_rank: int
    last_rank: int
    margin: float

    def __post_init__(self) -> None:
        if self.negatives < 1 or not 1 <= self.first_rank <= self.last_rank:
            ranks = f"first_rank {self.first_rank}, last_rank {self.last_rank}"
            raise BadInput(f"negatives {self.negatives}, {ranks}: ask for at least 1, of ranks that begin at 1 and do not end before")

    def chosen(self, scores: np.ndarray, positive_scores: np.ndarray, barred: np.ndarray) -> np.ndarray:
        """True [Q, k] at the first `negatives` of each ranking that may be one.

        scores: [Q, k], best first; positive_scores: [Q]; barred: [Q, k], True at documents that are not to be taken.
        """
        ranks = np.arange(1, scores.shape[1] + 1)
        may = ~barred & (ranks >= self.first_rank) & (ranks <= self.last_rank) & (scores <= positive_scores[:, None] - self.margin)
        return may & (may.cumsum(axis=1) <= self.negatives)


@dataclass(frozen=True)
class Miner:
    """A judged split of queries, the corpus, and the teacher's vectors of both."""

    source: TextSource
    store: TeacherStore
    split: str

    @cached_property
    def qrels(self) -> Qrels:
        qrels = self.source.qrels(self.split)
        if qrels is None:
            raise BadInput(f"{self.source}: {self.split!r} has no judgments: a negative is told by the positive it is not")
        return qrels

    @cached_property
    def queries(self) -> tuple[Texts, StoredQueries]:
        return open_evaluation_queries(self.source, self.store, self.split)

    @cached_property
    def query_ids(self) -> list[str]:
        return list(self.queries[0].ids)

    @cached_property
    def positives(self) -> np.ndarray:
        """[Q] row of each query's best judged document, -1 where the corpus has none."""
        return self.qrels.best_documents(self.query_ids, self.store.documents.ids, self.source.relevant_from)

    @cached_property
    def wordings(self) -> np.ndarray:
        """[N] uint64, equal for documents of the same words; of the same vector where the words are elsewhere."""
        documents = self.store.documents
        if not self.source.has_documents():
            return hash_values(row.tobytes() for start in range(0, len(documents), 8192) for row in documents[start : start + 8192])
        texts = self.source.documents()
        rows = np.concatenate([texts.ids.rows(ids) for ids in documents.ids.chunks()])
        return texts.wording_hashes[rows]

    def mined(self, queries: np.ndarray, rule: MiningRule) -> list[MinedQuery]:
        """Hard negatives of some queries, given by their rows; each must have a positive."""
        documents, positives = self.store.documents, self.positives[queries]
        vectors = torch.from_numpy(self.queries[1].take(queries)).float()
        positive_vectors = torch.from_numpy(documents.take(positives)).float()
        positive_scores = torch.einsum("qd,qd->q", vectors, positive_vectors).numpy()
        found = search(vectors.to(best_device()), documents, min(rule.last_rank, len(documents)))
        scores, rows = (part.cpu().numpy() for part in found)
        ids = [self.query_ids[query] for query in queries]
        chosen = rule.chosen(scores, positive_scores, self.exclusion_mask(ids, rows))
        return [
            MinedQuery(
                query=ids[i],
                positive=documents.ids[positives[i]],
                positive_score=round(float(positive_scores[i]), 6),
                negatives=[documents.ids[row] for row in rows[i][chosen[i]]],
                scores=[round(float(score), 6) for score in scores[i][chosen[i]]],
            )
            for i in range(len(ids))
        ]

    def exclusion_mask(self, query_ids: list[str], rows: np.ndarray) -> np.ndarray:
        """True [Q, k] at documents that are judged relevant in any degree, and at those of the same words."""
        corpus = self.store.documents.ids
        grades, _ = self.qrels.grade(query_ids, corpus, rows)
        barred = grades > 0
        relevant = [[document for document, grade in self.qrels.judgments[query].items() if grade > 0] for query in query_ids]
        found = corpus.rows([document for documents in relevant for document in documents])
        for i, those in enumerate(np.split(found, np.cumsum([len(documents) for documents in relevant])[:-1])):
            barred[i] |= np.isin(self.wordings[rows[i]], self.wordings[those[those >= 0]])
        return barred


def mine(
    store: str,
    source: TextSource,
    out: str,
    split: str = "train",
    negatives: int = 8,
    first_rank: int = 1,
    last_rank: int = 100,
    margin: float = 0.0,
) -> None:
    """Writes each judged query's hard negatives, by exact search over a teacher's store.

    No document that is judged relevant, nor one of the same words, is a negative. Run again after a kill it goes on.

    Args:
        store: folder of the teacher's vectors.
        source: where documents, queries and judgments come from.
        out: folder to write: negatives.jsonl and manifest.json.
        split: judged queries to mine for.
        negatives: at most so many for each query, the hardest first.
        first_rank: rank in the teacher's list from which on a document may be a negative; the first is 1.
        last_rank: and the rank up to which.
        margin: a negative scores at least so much below the query's positive; what scores higher may well be an unjudged answer.
    """
    rule = MiningRule(negatives, first_rank, last_rank, margin)
    place = Miner(source, TeacherStore(store), split)
    check_documents(place.store.documents, source)
    for each in (place.store.documents, *place.queries[1].stores):
        each.verify()
    queries = np.flatnonzero(place.positives >= 0)
    writer = LineShardWriter(Path(out), "negatives", _plan(place, rule), -(-len(queries) // QUERIES_PER_SHARD), "hard negatives")
    if writer.finished:
        return print(f"{writer.file}: done before")
    skipped = len(place.query_ids) - len(queries)
    with writer.claim():
        missing = writer.missing_shards()
        for shard in progress_bar(missing, total=len(missing), desc="mine", unit=" shards"):
            mined = place.mined(queries[shard * QUERIES_PER_SHARD : (shard + 1) * QUERIES_PER_SHARD], rule)
            writer.write_shard(shard, (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in mined))
        writer.write_file(line for _, lines in writer.read_shards() for line in lines)
        counts = [len(one.negatives) for one in read_mined_lines(writer.file)]
        found = {"lines": len(counts), "hard_negatives": (count := sum(counts)), "queries_without_a_positive": skipped}
        writer.finish({**found, "teacher": place.store.maker.to_json(), "provenance": collect_provenance()})
    print(f"{writer.file}: {count} hard negatives of {len(queries)} queries; {skipped} more have no positive in the corpus")


def _plan(place: Miner, rule: MiningRule) -> dict[str, Any]:
    stores = [place.store.documents, *place.queries[1].stores]
    return {
        "version": 1,
        "split": place.split,
        "rule": asdict(rule),
        "queries_per_shard": QUERIES_PER_SHARD,
        "vectors": fingerprint([store.checksums for store in stores]),
        "queries": place.queries[0].fingerprint,
        "judgments": fingerprint(place.qrels.judgments, place.source.relevant_from),
    }
