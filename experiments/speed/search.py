"""Exact top 100 over a corpus of vectors: distill.search against faiss IndexFlatIP and a bare matrix product with topk."""

from __future__ import annotations

import argparse

import faiss
import torch
from harness import arguments, measure, report

from distill.data.texts import Texts
from distill.search import search

TOP, WIDTH = 100, 384


def unit_vectors(count: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


def bench(documents: int, queries: int, given: argparse.Namespace) -> None:
    stored, asked = unit_vectors(documents, 0).half().numpy(), unit_vectors(queries, 1)
    index = faiss.IndexFlatIP(WIDTH)
    faiss.omp_set_num_threads(given.threads)
    index.add(stored.astype("float32"))
    contenders = {
        "distill, stored fp16": lambda: len(search(asked, stored, TOP)[1]),
        "faiss IndexFlatIP": lambda: len(index.search(asked.numpy(), TOP)[1]),
        "bare product and topk": lambda: len((asked @ torch.from_numpy(stored).float().T).topk(TOP).indices),
    }
    rows = measure(contenders, given.rounds, "queries", peer="faiss IndexFlatIP", bare="bare product and topk")
    path = given.json and given.json.with_stem(f"{given.json.stem}-{documents}")
    report("search", {"documents": documents, "queries": queries, "k": TOP, "threads": given.threads}, rows, path)


if __name__ == "__main__":
    given = arguments(__doc__)
    bench(len(Texts.open(given.data / "msmarco-dl" / "collection.tsv")), 6980, given)
    bench(300_000, 256, given)
