"""Sentences of a collection as a query file: sentences.py COLLECTION.tsv OUT.tsv

Two sentences of 3 to 20 words from each passage, drawn by a fixed seed; a passage may have fewer.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

from distill.artefacts import written_atomically
from distill.data.texts import Texts

PER_PASSAGE = 2


def main(collection: str, out: str) -> None:
    texts = Texts.open(collection)
    draw = random.Random(0)
    with written_atomically(Path(out)) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row, passage in enumerate(texts):
            sentences = [" ".join(sentence.split()) for sentence in re.split(r"(?<=[.?!:])\s+", passage)]
            fitting = [sentence for sentence in sentences if 3 <= len(sentence.split()) <= 20]
            for number, sentence in enumerate(draw.sample(fitting, min(PER_PASSAGE, len(fitting)))):
                file.write(f"{texts.ids[row]}-{number}\t{sentence}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
