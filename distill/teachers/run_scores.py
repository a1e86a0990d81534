"""A TREC run file as a teacher: what a search engine, a late interaction model or a language model scored, without loading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from distill.files.fingerprints import file_fingerprint
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput, Batch, Encoded, send
from distill.teachers.stored import LookUpTeacher, StoredRows
from distill.texts.ids import Ids
from distill.texts.matching_ids import check_run
from distill.texts.own_documents import drop_own_documents
from distill.texts.text_source import TextSource


class RunScores(LookUpTeacher[StoredRows]):
    """A teacher whose scores of every query's candidates are in a TREC run file; it has no vectors.

    Args:
        scores: [N, K] score of each candidate of each training query.
        file: fingerprint of the file.
    """

    width, reads_pairs, has_cosine_scores = 0, True, False

    def __init__(self, scores: np.ndarray, file: str):
        self.scores = torch.from_numpy(scores)
        self.file = file

    def fingerprint(self) -> str:
        """That of the file."""
        return self.file

    def look_up(self, batch: Batch) -> StoredRows:
        return StoredRows(self.scores[batch.query_rows.cpu()])

    def __call__(self, batch: Batch) -> Encoded:
        """Looks up the scores [B, K] of the batch's queries."""
        scores = self.read(batch).pairs.float()  # [B, K]
        no_vectors = scores.new_zeros(*scores.shape, 0)
        return Encoded(no_vectors, no_vectors, scores, send(batch.document_rows, scores.device))


def is_run(name: str) -> bool:
    """Tells whether a teacher's name is a file, as a run is, and no folder of stores."""
    return Path(name).is_file()


def read_run_candidates(path: str, source: TextSource, split: str, k: int) -> dict[str, list[str]]:
    """Returns the ids of the first `k` documents by query id, of those in the corpus; queries with fewer are left out.

    A query's own document is no candidate.

    Raises:
        BadInput: the file shares no query or no document with the texts.
    """
    run = drop_own_documents(source, split, read_trec(Path(path)), path)
    queries, corpus = list(source.queries(split).ids), source.documents().ids
    candidates = {query: _select_known([document for document, _ in run.get(query, ())], corpus)[:k] for query in queries}
    if not any(candidates.values()):
        check_run(path, run, queries, np.full((len(queries), k), -1), corpus)
    return {query: documents for query, documents in candidates.items() if len(documents) == k}


def _select_known(documents: list[str], corpus: Ids) -> list[str]:
    rows = corpus.rows(documents) if documents else np.empty(0, np.int64)
    return [document for document, row in zip(documents, rows.tolist(), strict=True) if row >= 0]


def open_run_scores(path: str, queries: Sequence[str], candidates: np.ndarray) -> RunScores:
    """Opens the scores of N queries and of K candidates of each; a candidate that the run lacks has the query's lowest score in it.

    Args:
        path: the run file.
        queries: ids of the queries.
        candidates: [N, K] ids of the candidates of each.

    Raises:
        BadInput: the run has no document of a query.
    """
    run = read_trec(Path(path))
    missing = [query for query in queries if not run.get(query)]
    if missing:
        count = f"{len(missing)} of {len(queries)} training queries have no documents in it"
        raise BadInput(f"data.teachers: {path}: {count}, {missing[0]!r} for one: give a run of all of them")
    scores = np.empty(candidates.shape, np.float32)
    for row, (query, documents) in enumerate(zip(queries, candidates, strict=True)):
        found = dict(run[query])
        lowest = min(found.values())
        with np.errstate(over="ignore"):  # refused below
            scores[row] = [found.get(document, lowest) for document in documents]
    if not np.isfinite(scores).all():
        raise BadInput(f"data.teachers: {path}: a score is no finite number that float32 holds: scale the scores")
    return RunScores(scores, file_fingerprint(Path(path)))
