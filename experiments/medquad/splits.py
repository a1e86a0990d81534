"""A labelled BEIR folder in four splits for this experiment: queries the teachers learn from, others for the students, dev and test.

A cross encoder's scores of queries it was trained on are close to their labels; students learn from its opinion of queries it never saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from distill.files.atomic import write_atomically
from distill.texts.sources import Beir
from distill.texts.text_files import find_text_file

SIZES = {"teach": ("train", 2000), "student": ("train", 2000), "dev": ("dev", 300), "test": ("test", 500)}


def split(data: Path, out: Path) -> None:
    """Links the texts of `data` into `out` and writes the judgments of each split; `out` is whole or absent."""
    source = Beir(str(data))
    taken: set[str] = set()
    with write_atomically(out) as folder:
        (folder / "qrels").mkdir(parents=True)
        for name in ("corpus.jsonl", "queries.jsonl"):
            path = find_text_file(data / name)
            (folder / path.name).symlink_to(path.resolve())  # a hub's snapshot is links itself
        for name, (part, size) in SIZES.items():
            qrels, queries = source.qrels(part), source.remove_leaked(source.queries(part), [part])
            assert qrels is not None, f"{part} is not judged"
            ids = [id_ for id_ in np.random.default_rng(0).permutation(sorted(queries.ids)).tolist() if id_ not in taken][:size]
            taken |= set(ids)
            lines = [f"{query}\t{document}\t{grade}\n" for query in ids for document, grade in qrels.judgments[query].items()]
            (folder / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
            print(f"{out}: {len(ids)} queries for {name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder in BEIR layout with the splits train, dev and test")
    parser.add_argument("out", type=Path, help="folder to write")
    arguments = parser.parse_args()
    split(arguments.data, arguments.out)
