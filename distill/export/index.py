"""A faiss index in an export: the documents' vectors, for a server that asks it with the student's queries."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.encoders.batching import encode_texts
from distill.encoders.encoder import Encoder
from distill.export.serving import spread_texts
from distill.files.atomic import read_json, refuse_other_inputs, write_atomically, write_json
from distill.files.device import best_device
from distill.files.fingerprints import fingerprint
from distill.files.provenance import collect_provenance
from distill.metrics.ranking import overlap
from distill.records import BadInput
from distill.training.run_folder import RunFolder
from distill.vectors.faiss_index import SAMPLE, Kind, faiss_index, save_index, settings
from distill.vectors.search import Index, search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import VectorStore

TOP = 10
DEV_QUERIES = 1000  # asked at most
SECONDS = 1.0  # a speed is measured for so long, or for one call


def add_index(student: Encoder, run: RunFolder, folder: Path, kind: Kind) -> None:
    """Adds `index/` to an export in `folder`: `documents.faiss`, `ids.txt` with the id of each row, and `index.json`.

    An index of the same kind and documents is kept. Raises BadInput where another lies there and where the vectors are not whole.
    """
    data = run.data()
    store = run.teacher_store(data.store_folder).documents
    inputs = {"kind": kind, "documents": len(store), "vectors": fingerprint(store.checksums)}
    destination = folder / "index"
    if destination.exists():
        before = read_json(destination / "index.json", "earlier index")
        refuse_other_inputs(destination, before, inputs)
        return print(f"{destination}: done before, {describe_index(before)}")
    check_documents(store, data.source)
    store.verify()
    student = student.prepare_for(best_device())
    asked, dev = (
        encode_texts(student, spread_texts(data.source.queries(split), most), "query")
        for split, most in ((data.train_split, SAMPLE), (data.dev_split, DEV_QUERIES))
    )
    index = faiss_index(store, kind, asked, progress=True)
    found = {**inputs, **settings(index, kind), **measure_index(index, store, torch.from_numpy(dev).to(best_device()))}
    with write_atomically(destination) as temporary:
        temporary.mkdir()
        save_index(index, temporary / "documents.faiss")
        write_ids(store, temporary / "ids.txt")
        write_json(temporary / "index.json", found)
    print(f"{destination}: {describe_index(found)}")


def write_ids(store: VectorStore, path: Path) -> None:
    """One id a line, in row order."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for ids in store.ids.chunks():
            if broken := [id_ for id_ in ids if "\n" in id_ or "\r" in id_]:
                raise BadInput(f"{store.folder}: the id {broken[0]!r} has a line break, which ids.txt cannot hold: rename the document")
            file.writelines(f"{id_}\n" for id_ in ids)


def measure_index(index: Index, store: VectorStore, queries: Tensor) -> dict[str, Any]:
    """Recall of the index's top 10 against the exact one of `queries` [Q, D], and how fast both answer, all at once and one by one."""
    (_, exact), (_, found) = search(queries, store, TOP), search(queries, index, TOP)
    return {
        "queries": len(queries),
        f"recall@{TOP}": float(overlap(exact, found, TOP).mean()),
        "queries_per_second": {"exact": measure_speed(queries, store), "index": measure_speed(queries, index)},
        "threads": torch.get_num_threads(),
        "processor": collect_provenance()["processor"],
    }


def measure_speed(queries: Tensor, documents: VectorStore | Index) -> dict[str, float]:
    """Queries per second [Q, D]: all in one call, and one a call as a server asks."""
    singles = queries.split(1)
    together = len(queries) * count_per_second(lambda turn: search(queries, documents, TOP))
    alone = count_per_second(lambda turn: search(singles[turn % len(singles)], documents, TOP))
    return {"together": round(together, 1), "alone": round(alone, 1)}


def count_per_second(call: Callable[[int], object]) -> float:
    """How often `call` ends in a second; it is told how often it was called before."""
    start, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - start < SECONDS:
        call(calls)
        calls += 1
    return calls / (time.perf_counter() - start)


def describe_index(found: dict[str, Any]) -> str:
    """What was measured, in one line."""
    exact, index = found["queries_per_second"]["exact"], found["queries_per_second"]["index"]
    return (
        f"{found['kind']}, {found['documents']} documents: recall@{TOP} {found[f'recall@{TOP}']:.4f} of exact search on {found['queries']} "
        f"dev queries; queries/s of the index and of exact search over the store: all at once {index['together']:.0f} and "
        f"{exact['together']:.0f}, one by one {index['alone']:.0f} and {exact['alone']:.0f}"
    )
