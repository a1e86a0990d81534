"""MS MARCO texts split for the ablation: texts.py DATA OUT

OUT has DATA's documents and judged splits, and DATA's train queries in fixed parts: `holdout` and `dev`, which nothing is made from,
then `real_1k`, `more_5k` and `more_all`, which add up to 1,000, 5,000 and all that are left.
"""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

from distill.files.atomic import write_atomically

PARTS = {"holdout": 1000, "dev": 500, "real_1k": 1000, "more_5k": 4000, "more_all": None}


def main(data: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for path in data.glob("*.dl*.tsv"):
        shutil.copy(path, out / path.name)
    collection = out / "collection.tsv"
    collection.unlink(missing_ok=True)
    collection.symlink_to((data / "collection.tsv").resolve())
    lines = (data / "queries.train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    start = 0
    for part, size in PARTS.items():
        end = len(lines) if size is None else start + size
        with write_atomically(out / f"queries.{part}.tsv") as temporary:
            temporary.write_text("".join(lines[start:end]), encoding="utf-8")
        start = end


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
