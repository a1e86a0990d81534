"""Exact top 100: distill.vectors.search against faiss IndexFlatIP, on the CPU always, and a bare matrix product with topk."""

from __future__ import annotations

import argparse
from typing import Any

import faiss
import numpy as np
import torch
from corpora import WIDTH, passages, queries, teacher_vectors
from harness import arguments, figure, measure, report, threaded

from distill.vectors.search import search

TOP = 100
NOT_TELLABLE = 1e-6  # scores closer than this are equal to fp32


def unit_vectors(count: int, seed: int) -> np.ndarray:
    """[count, 384] float16, random directions."""
    vectors = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(vectors, dim=1).half().numpy()


def bench(name: str, stored: np.ndarray, asked: np.ndarray, given: argparse.Namespace) -> list[dict[str, Any]]:
    questions = torch.from_numpy(asked.astype(np.float32)).to(given.device)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(stored.astype(np.float32))
    rows: list[dict[str, Any]] = []
    for threads, setting in threaded(given):
        faiss.omp_set_num_threads(threads)
        contenders = {
            f"distill, {name}": lambda: len(search(questions, stored, TOP)[1]),
            f"faiss IndexFlatIP, {name}": lambda: len(index.search(asked.astype(np.float32), TOP)[1]),
        }
        if len(stored) * len(asked) < 1e9:  # it holds all scores at once
            contenders[f"bare product and topk, {name}"] = lambda: len(bare(questions, stored))
        bare_name = f"bare product and topk, {name}" if len(contenders) == 3 else None
        rows += measure(contenders, given, "queries", setting, f"faiss IndexFlatIP, {name}", bare_name)
    wrong = out_of_place(search(questions, stored, TOP)[1].cpu().numpy(), asked, stored)
    rows.append(figure(f"distill, {name}: documents out of place", wrong, f"of {len(asked) * TOP:,}"))
    return rows


def bare(questions: torch.Tensor, stored: np.ndarray) -> torch.Tensor:
    documents = torch.from_numpy(np.asarray(stored)).to(questions.device).float()
    return (questions @ documents.T).topk(TOP).indices


def out_of_place(found: np.ndarray, asked: np.ndarray, stored: np.ndarray) -> int:
    """How many places of the ranking hold a document whose score, in float64, is not the one that belongs there."""
    documents, wrong = torch.from_numpy(stored.astype(np.float64)), 0
    for start in range(0, len(asked), 64):
        scores = torch.from_numpy(asked[start : start + 64].astype(np.float64)) @ documents.T
        best = scores.topk(TOP).values
        ours = scores.gather(1, torch.from_numpy(found[start : start + 64]))
        wrong += int(((best - ours).abs() > NOT_TELLABLE).sum())
    return wrong


def main() -> None:
    given = arguments(__doc__, devices=("cpu", "cuda"))
    stored = np.asarray(teacher_vectors(passages(given.data), "document"))
    asked = np.asarray(teacher_vectors(queries(given.data).subset(np.arange(6980)), "query"))
    rows = bench(f"{len(asked):,} x {len(stored):,}", stored, asked, given)
    rows += bench("256 x 1,000,000 random", unit_vectors(1_000_000, 0), unit_vectors(256, 1), given)
    report("search", given, {"k": TOP, "width": WIDTH}, rows)


if __name__ == "__main__":
    main()
