"""Spans of passages as a query file: spans.py COLLECTION.tsv QUERIES.tsv OUT.tsv

Two spans from each passage, each as many words long as some query of QUERIES; drawn by a fixed seed.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from distill.artefacts import written_atomically
from distill.data.texts import Texts

PER_PASSAGE = 2


def main(collection: str, queries: str, out: str) -> None:
    lengths = [len(query.split()) for query in Texts.open(queries)]
    passages = Texts.open(collection)
    draw = random.Random(0)
    with written_atomically(Path(out)) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row, passage in enumerate(passages):
            words = passage.split()
            for number in range(PER_PASSAGE if words else 0):
                length = max(2, draw.choice(lengths))
                start = draw.randrange(max(1, len(words) - length))
                file.write(f"{passages.ids[row]}-{number}\t{' '.join(words[start : start + length])}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
