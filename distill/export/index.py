"""Adds a faiss index of the document vectors to an export, and measures it with the student's queries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.data.datamodule import RetrievalData
from distill.encoders.batching import encode_texts
from distill.encoders.encoder import Encoder
from distill.files.atomic import read_json, refuse_other_inputs, write_atomically, write_json
from distill.files.device import best_device
from distill.files.fingerprints import fingerprint
from distill.files.provenance import collect_provenance
from distill.files.sampling import evenly_spaced_rows
from distill.metrics.ranking import overlap
from distill.records import BadInput
from distill.texts.own_documents import find_own_documents
from distill.texts.texts import Texts
from distill.training.run_folder import RunFolder
from distill.vectors.faiss_index import TUNING_QUERIES, Kind, describe_settings, faiss_index, save_index
from distill.vectors.search import FaissIndex, search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import VectorStore

FOLDER = "index"  # folder in an export
MEASUREMENTS = "index.json"  # file in that folder
TOP = 10  # documents of each query over which recall is measured
DEV_QUERIES = 1000  # most dev queries to measure with
SECONDS = 1.0  # least duration of a speed measurement


@dataclass(frozen=True)
class ExportedIndex:
    """The index of an export.

    Attributes:
        folder: folder with documents.faiss, ids.txt with the id of each row, and index.json.
        measurements: content of index.json: settings, recall and speed.
        is_new: whether this call built the index; False if an earlier export did.
    """

    folder: Path
    measurements: dict[str, Any]
    is_new: bool


def add_index(student: Encoder, run: RunFolder, folder: Path, kind: Kind) -> ExportedIndex:
    """Adds `index/` to the export in `folder`, unless it has an index of the same kind and documents.

    Raises:
        BadInput: the export has another index, or the stored vectors are damaged.
    """
    data = run.data()
    store = run.teacher_store(data.store_folder).documents
    inputs = {"kind": kind, "documents": len(store), "vectors": fingerprint(store.checksums)}
    destination = folder / FOLDER
    if destination.exists():
        before = read_json(destination / MEASUREMENTS, "earlier index")
        refuse_other_inputs(destination, before, inputs)
        return ExportedIndex(destination, before, is_new=False)
    check_documents(store, data.source)
    store.verify()
    student = student.prepare_for(best_device())
    tuning = encode_texts(student, list(sample_queries(data, data.train_split, TUNING_QUERIES)), "query")  # [Q, D]
    index = faiss_index(store, kind, tuning, progress=True)
    sample = sample_queries(data, data.dev_split, DEV_QUERIES)
    dev_queries = torch.from_numpy(encode_texts(student, list(sample), "query")).to(best_device())
    left_out = find_own_documents(data.source, data.dev_split, sample.ids, store.ids)
    measurements = {**inputs, **describe_settings(index, kind), **measure_index(index, store, dev_queries, left_out)}
    with write_atomically(destination) as temporary:
        temporary.mkdir()
        save_index(index, temporary / "documents.faiss")
        write_ids(store, temporary / "ids.txt")
        write_json(temporary / MEASUREMENTS, measurements)
    return ExportedIndex(destination, measurements, is_new=True)


def sample_queries(data: RetrievalData, split: str, most: int) -> Texts:
    """Chooses up to `most` queries of a split, evenly spaced over it."""
    queries = data.source.queries(split)
    return queries.subset(evenly_spaced_rows(len(queries), most))


def write_ids(store: VectorStore, path: Path) -> None:
    """Writes one id a line, in row order."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for ids in store.ids.chunks():
            broken = [id_ for id_ in ids if "\n" in id_ or "\r" in id_]
            if broken:
                raise BadInput(f"{store.folder}: the id {broken[0]!r} has a line break, which ids.txt cannot hold: rename the document")
            file.writelines(f"{id_}\n" for id_ in ids)


def measure_index(index: FaissIndex, store: VectorStore, queries: Tensor, left_out: np.ndarray | None) -> dict[str, Any]:
    """Measures the recall of an index against exact search for `queries` [Q, D], and the speed of both.

    A query's document in `left_out` [Q], its own, is not counted.
    """
    _, exact = search(queries, store, TOP, left_out=left_out)  # [Q, TOP]
    _, approximate = search(queries, index, TOP, left_out=left_out)  # [Q, TOP]
    return {
        "queries": len(queries),
        f"recall@{TOP}": float(overlap(exact, approximate, TOP).mean()),
        "queries_per_second": {"exact": measure_speed(queries, store), "index": measure_speed(queries, index)},
        "threads": torch.get_num_threads(),
        "processor": collect_provenance()["processor"],
    }


def measure_speed(queries: Tensor, documents: VectorStore | FaissIndex) -> dict[str, float]:
    """Measures the queries per second for queries [Q, D]: all in one call, and one query in each call, as on a server."""
    singles = queries.split(1)
    together = len(queries) * count_per_second(lambda number: search(queries, documents, TOP))
    alone = count_per_second(lambda number: search(singles[number % len(singles)], documents, TOP))
    return {"together": round(together, 1), "alone": round(alone, 1)}


def count_per_second(call: Callable[[int], object]) -> float:
    """Measures how many times per second `call` can be called; its argument is the number of calls before it."""
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < SECONDS:
        call(calls)
        calls += 1
    return calls / (time.perf_counter() - start)


def describe_index(measurements: dict[str, Any]) -> str:
    """Describes the measurements of an index in one line."""
    exact, index = measurements["queries_per_second"]["exact"], measurements["queries_per_second"]["index"]
    return (
        f"{measurements['kind']}, {measurements['documents']} documents: recall@{TOP} {measurements[f'recall@{TOP}']:.4f} of exact search "
        f"on {measurements['queries']} dev queries; queries/s of the index and of exact search over the store: all at once "
        f"{index['together']:.0f} and {exact['together']:.0f}, one by one {index['alone']:.0f} and {exact['alone']:.0f}"
    )
