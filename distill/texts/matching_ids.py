"""Whether the ids of judgments and of run files are those of the texts: where none is, every figure would be 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.files.progress import log
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.text_source import TextSource


def check_judged_documents(source: TextSource, split: str, corpus: Ids) -> None:
    """Refuses a split whose judgments name no document of the corpus; logs how many judged documents the corpus lacks.

    Args:
        source: where the judgments come from.
        split: split that is judged, `dl19+dl20` for two, each of which is looked at; a split without judgments is in order.
        corpus: ids of the documents.

    Raises:
        BadInput: none of the documents that a split judges is in the corpus.
    """
    for part in split.split("+"):
        qrels = source.qrels(part)
        if qrels is not None:
            qrels.check_documents(corpus)


def check_run(
    path: str | Path, run: Mapping[str, Sequence[tuple[str, float]]], query_ids: Sequence[str], rows: np.ndarray, corpus: Ids
) -> None:
    """Refuses a run file that shares no query or no document with the texts; logs in one line what it does not share.

    Args:
        path: the file, for messages.
        run: documents and their scores by query id.
        query_ids: Q ids.
        rows: [Q, k] rows of the corpus of the first k documents of each query; -1 where the corpus lacks the document, and as padding.
        corpus: ids of the documents.

    Raises:
        BadInput: none of its queries is among `query_ids`, or none of its documents is in the corpus.
    """
    shared = [query for query in query_ids if query in run]
    if not shared:
        first = f"{next(iter(run))!r} is a query there" if run else "it is empty"
        other = f"{query_ids[0]!r} here" if len(query_ids) else "none here"
        raise BadInput(f"{path}: ranks none of these queries: {first}, {other}: give a run of this split")
    counts = np.array([min(len(run.get(query, ())), rows.shape[1]) for query in query_ids])
    total, unknown = int(counts.sum()), int(counts.sum() - (rows >= 0).sum())
    if total and unknown == total and len(corpus):
        document = next(documents[0][0] for documents in map(run.__getitem__, shared) if documents)
        pair = f"{document!r} is ranked, {corpus[0]!r} is a document"
        raise BadInput(f"{path}: none of its documents is in the corpus: {pair}: give a run of these texts")
    parts = []
    if len(shared) < len(query_ids):
        parts.append(f"{len(query_ids) - len(shared)} of {len(query_ids)} queries are not in it and count as found nothing")
    if len(shared) < len(run):
        parts.append(f"{len(run) - len(shared)} of its {len(run)} queries are not asked here")
    if unknown:
        parts.append(f"{unknown} of {total} ranked documents are not in the corpus")
    if parts:
        log.info(f"{path}: {'; '.join(parts)}")
