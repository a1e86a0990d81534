"""A query's own document: the one that has its id, as in ArguAna and Quora. It is no answer to the query, and rankings leave it out.

BEIR's evaluation does the same. Where the judgments say that the document is relevant to the query, it is an answer and stays; a source
with `keep_own_documents` keeps all of them, as its ids of queries and documents may be numbers that meet by chance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from distill.files.launch import read_launch
from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.files.text_lines import read_lines
from distill.texts.ids import BYTE_ORDER_MARK, Ids
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts

ScoredDocuments = list[tuple[str, float]]  # ids and scores, best first

PAIRS_READ = 100  # most queries whose wording is looked for in the document with their id
TEXTS_READ = 100_000  # most documents whose wordings are compared with those of the queries


def find_own_documents(source: TextSource, split: str, query_ids: Ids, corpus: Ids, judged: bool = True) -> np.ndarray | None:
    """Finds the document of each query that rankings leave out, and logs once for each split how many there are.

    Args:
        source: where queries and judgments come from.
        split: split of the queries, e.g. test, or dl19+dl20; or the name of other queries.
        query_ids: ids of Q queries.
        corpus: ids of the documents.
        judged: whether the source may have judgments of the queries; False for those of no split.

    Returns:
        [Q] int64, a row of the corpus for each query, -1 where nothing is left out; None where nothing is left out for any query.
    """
    if source.keep_own_documents:
        return None
    rows = np.concatenate([corpus.rows(ids) for ids in query_ids.chunks()])  # [Q]
    if not (rows >= 0).any():
        return None
    answers = _find_judged_answers(source, split) if judged else set()
    is_answer = np.array([id_ in answers for id_ in query_ids]) & (rows >= 0)
    rows = np.where(is_answer, -1, rows)
    left_out = int((rows >= 0).sum())
    _log_count(source, split, f"{left_out} of {len(query_ids)} queries", int(is_answer.sum()))
    return rows if left_out else None


def ids_meet_by_chance(source: TextSource, split: str) -> bool:
    """Whether queries and documents share ids, as two lists that were both numbered from 1 do, but not their texts.

    It is so where fewer than half of the queries that have a document's id have its words too; at most PAIRS_READ of them are read.
    """
    queries, documents = source.queries(split), source.documents()
    rows = np.concatenate([documents.ids.rows(ids) for ids in queries.ids.chunks()])  # [Q]
    shared = np.flatnonzero(rows >= 0)
    shared = shared[evenly_spaced_rows(len(shared), PAIRS_READ)]
    pairs = zip(queries.read(shared), documents.read(rows[shared]), strict=True)
    same = sum(" ".join(query.lower().split()) in " ".join(document.lower().split()) for query, document in pairs)
    return same * 2 < len(shared)


def drop_own_documents(source: TextSource, split: str, run: dict[str, ScoredDocuments], name: object) -> dict[str, ScoredDocuments]:
    """Leaves each query's own document out of a run, and logs how many there were.

    Args:
        source: where queries and judgments come from.
        split: split of the queries.
        run: documents and their scores by query id, best first.
        name: names the run in the log.
    """
    if source.keep_own_documents:
        return run
    answers = _find_judged_answers(source, split)
    own = {query for query, documents in run.items() if query not in answers and any(id_ == query for id_, _ in documents)}
    if not own:
        return run
    _log_count(source, f"{split} of {name}", f"{len(own)} queries", 0)
    return {query: [pair for pair in documents if pair[0] != query or query not in own] for query, documents in run.items()}


def leave_out_own_ids(source: TextSource, split: str, documents: dict[str, list[str]]) -> dict[str, list[str]]:
    """Leaves each query's own document out of lists of documents by query id."""
    if source.keep_own_documents:
        return documents
    answers = _find_judged_answers(source, split)
    return {query: ids if query in answers else [id_ for id_ in ids if id_ != query] for query, ids in documents.items()}


def copy_run(source: TextSource, split: str, original: Path, copy: Path) -> None:
    """Copies a TREC run file, unpacked, without the lines of each query's own document; the other lines stay as they are.

    Args:
        source: where queries and judgments come from.
        split: split of the queries.
        original: file to read.
        copy: file to write.
    """
    answers = _find_judged_answers(source, split)

    def is_own(line: str) -> bool:
        words = line.removeprefix(BYTE_ORDER_MARK).split()
        return len(words) > 2 and words[0] == words[2] and words[0] not in answers

    with open(copy, "w", encoding="utf-8", newline="") as file:
        file.writelines(line for _, line in read_lines(original) if source.keep_own_documents or not is_own(line))


def _find_judged_answers(source: TextSource, split: str) -> set[str]:
    """The ids of the queries whose own document is judged relevant."""
    qrels = source.qrels(split)
    judgments = {} if qrels is None else qrels.judgments
    return {query for query, grades in judgments.items() if grades.get(query, 0) > 0}


def _log_count(source: TextSource, place: str, queries: str, answers: int) -> None:
    """Logs one line for each place; of several ranks the first one alone does."""
    if place in source.places_logged or read_launch().rank != 0:
        return
    source.places_logged.add(place)
    kept = f", and kept for {answers} where it is judged relevant" if answers else ""
    fix = "(keep_own_documents keeps all)"
    log.info(f"{source}, {place}: the document with the query's own id is left out for {queries}{kept} {fix}")


def warn_of_copies(source: TextSource, split: str, ranked: np.ndarray | None = None) -> None:
    """Warns where a query has the wording of a document with another id, which stays in the rankings.

    Documents that are judged relevant to the query are left out of the count. In a corpus of more than TEXTS_READ documents, only the
    ranked ones are read.

    Args:
        source: where documents, queries and judgments come from.
        split: split of the queries.
        ranked: rows of the source's documents, of any shape, that rankings begin with; rows of -1 are padding. None reads all documents.
    """
    if not source.has_documents():
        return
    queries, documents = source.queries(split), source.documents()
    if ranked is not None and len(documents) > TEXTS_READ:
        documents = documents.subset(np.unique(ranked[ranked >= 0]))
    copies = _find_copies(queries, documents, source.qrels(split) or Qrels({}))
    if copies:
        query, document = next(iter(copies.items()))
        count = f"{len(copies)} of {len(queries)} queries of {split} have the wording of a document with another id"
        log.warning(f"{source}: {count}, {query!r} that of {document!r} for one: such documents stay in the rankings")


def _find_copies(queries: Texts, documents: Texts, qrels: Qrels) -> dict[str, str]:
    """For each query that has the wording of a document with another id, not judged relevant to it: the id of the first such document."""
    hashes = documents.wording_hashes  # [N]
    order = np.argsort(hashes, kind="stable")
    begins = np.searchsorted(hashes, queries.wording_hashes, sorter=order)  # [Q]
    ends = np.searchsorted(hashes, queries.wording_hashes, side="right", sorter=order)  # [Q]
    copies = {}
    for row in np.flatnonzero(ends > begins).tolist():
        query = queries.ids[row]
        grades = qrels.judgments.get(query, {})
        same = [documents.ids[place] for place in order[begins[row] : ends[row]]]
        others = [document for document in same if document != query and grades.get(document, 0) <= 0]
        if others:
            copies[query] = others[0]
    return copies
