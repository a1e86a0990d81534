"""Small judged collections of random words, in BEIR layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WORDS = ["river", "music", "engine", "garden", "planet", "bread", "winter", "market", "ocean", "letter", "old", "new", "small", "large"]
QUERIES, DOCUMENTS = 25, 40


def write_collection(folder: Path, lengths: tuple[int, int], seed: int, names: tuple[str, str] = ("q", "d")) -> Path:
    random = np.random.default_rng(seed)
    (folder / "qrels").mkdir(parents=True)

    def make_text(low: int, high: int) -> str:
        return " ".join(random.choice(WORDS, size=random.integers(low, high)).tolist())

    for file, name, count, bounds in (("queries", names[0], QUERIES, lengths), ("corpus", names[1], DOCUMENTS, (8, 30))):
        lines = [json.dumps({"_id": f"{name}{row}", "text": make_text(*bounds)}) for row in range(count)]
        (folder / f"{file}.jsonl").write_text("\n".join(lines))
    judged = {(query, int(document)): int(random.integers(1, 3)) for query in range(QUERIES) for document in random.choice(DOCUMENTS, 4)}
    pairs = [f"{names[0]}{query}\t{names[1]}{document}\t{grade}" for (query, document), grade in judged.items()]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *pairs]))
    return folder
