"""The documents that a first stage ranks highest: a TREC run file, or a stored dual encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from distill.files.cache import cache_folder, load_or_compute
from distill.files.device import best_device
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents, text_rows
from distill.vectors.store import TeacherStore


def search_first_stage(source: TextSource, store: str, split: str, queries: Texts, k: int) -> np.ndarray:
    """[Q, k] rows of a stored teacher's top documents for `queries` of a split, -1 beyond the corpus; searched once and kept."""
    opened = TeacherStore(store)
    check_documents(opened.documents, source)
    stores = [opened.queries(part, source.queries(part).fingerprint) for part in split.split("+")]
    key = fingerprint([part.checksums for part in [opened.documents, *stores]], queries.fingerprint, k)

    def searched() -> list[np.ndarray]:
        vectors = np.empty((len(queries), opened.documents.width), np.float16)
        missing = np.ones(len(queries), bool)
        for part in stores:
            rows = part.ids.rows(list(queries.ids))
            vectors[rows >= 0] = part.take(rows[rows >= 0])
            missing &= rows < 0
        if missing.any():
            raise BadInput(f"{store}: no vector of {int(missing.sum())} queries of {split}: encode them")
        return [search(torch.from_numpy(vectors).to(best_device()), opened.documents, k, progress=True)[1].cpu().numpy()]

    return text_rows(opened.documents, source, np.asarray(load_or_compute(cache_folder() / "teacher-top" / f"{key}.npy", searched)))


def read_first_stage(name: str, source: TextSource, split: str, queries: Texts, k: int) -> np.ndarray:
    """[Q, k] rows of the corpus to re-rank for each query, best first, -1 where there are fewer: of a TREC run file, or of a store."""
    if Path(name).is_dir():
        return search_first_stage(source, name, split, queries, k)
    return rows_of_run(read_trec(Path(name)), queries, source.documents().ids, k, name)


def first_stage_fingerprint(name: str) -> str:
    """Of a TREC run file, or of the teacher whose store it is."""
    return file_fingerprint(Path(name)) if Path(name).is_file() else TeacherStore(Path(name)).maker.fingerprint


def rows_of_run(run: dict[str, list[tuple[str, float]]], queries: Texts, corpus: Ids, k: int, name: str) -> np.ndarray:
    rows = np.full((len(queries), k), -1, np.int64)
    for query, id_ in enumerate(queries.ids):
        found = corpus.rows([document for document, _ in run.get(id_, [])[:k]])
        if (found < 0).any():
            raise BadInput(f"{name}: query {id_!r}: document {run[id_][int(np.argmax(found < 0))][0]!r} is not in the corpus: wrong texts?")
        rows[query, : len(found)] = found
    if not (rows >= 0).any():
        raise BadInput(f"{name}: ranks none of these queries: give a run of this split")
    return rows
