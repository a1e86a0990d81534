"""Texts of the small world for jobs of shrink."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from conftest import TOPICS, sentence

MINUTES = 60  # enough on any machine; see small_jobs
DOCUMENTS = 20  # of write_beir


def make_texts(count: int, longest: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [sentence(random, TOPICS[i % len(TOPICS)], int(random.integers(2, longest))) for i in range(count)]


def write_judgments(path: Path, prefix: str, queries: Iterable[int], document: str = "d{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{prefix}{i}\t{document.format(i % DOCUMENTS)}\t1\n" for i in queries]
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return path


def write_beir(parent: Path, judged: dict[str, range]) -> Path:
    """A folder in BEIR layout of 200 queries, of which some are judged."""
    folder = parent / "beir"
    folder.mkdir()
    rows = {"corpus": make_texts(DOCUMENTS, 25, seed=2), "queries": make_texts(200, 9, seed=1)}
    for name, texts in rows.items():
        lines = [json.dumps({"_id": f"{name[0].replace('c', 'd')}{i}", "text": text}) for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    for split, queries in judged.items():
        write_judgments(folder / "qrels" / f"{split}.tsv", "q", queries)
    return folder
