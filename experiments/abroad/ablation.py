"""What each kind of text, length and layer adds: trains students for equal seconds and measures them: ablation.py DATA SECONDS [ROW...]

Reads the texts and vectors that run.sh made. Leaves a run folder for each row in runs/abroad_rows, and prints the table of the rows
that are done.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import distill
from distill.encoders.students import StudentFromTeacher
from distill.files.atomic import read_json, write_atomically, write_json
from distill.losses import QueryMatching
from distill.shrinking.budget import measure_rate
from distill.texts.sources import MsMarcoTsv, QueryFile
from distill.vectors.index import Index
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter, write_store

RUNS = Path("runs")
OUT, STORE = RUNS / "abroad_rows", RUNS / "abroad_teacher"
WATCHED = ("cisi", "datafinder", "climatefever-ev")
WORDS = {"short": (3, 12), "middle": (13, 45), "long": (46, 160)}  # pieces of each length: about as many of each
DOCUMENTS = "documents"
SHARES = {"spans": 2.0, "questions": 4.9, "pieces": 20.0, DOCUMENTS: 2.0, **dict.fromkeys(WORDS, 6.6)}  # for each query of `train`
HOME = ("spans",)
ALL = ("spans", "questions", DOCUMENTS, "pieces")
BATCH_SIZE, HOLDOUT = 64, 1000


@dataclass(frozen=True)
class Row:
    """A student: what it reads beside the split `train`, and how much larger its time is than that of the others."""

    texts: tuple[str, ...]
    train: str = "train"
    layers: tuple[int, ...] = (0, 5)
    times: float = 1.0
    seed: int = 0


ROWS = {
    "home": Row(HOME),
    "questions alone": Row((), train="questions"),
    "pieces alone": Row((), train="pieces"),
    "home, questions": Row((*HOME, "questions")),
    "home, documents": Row((*HOME, DOCUMENTS)),
    "home, pieces": Row((*HOME, "pieces")),
    "home, questions, documents": Row((*HOME, "questions", DOCUMENTS)),
    "all": Row(ALL),
    "all, seed 1": Row(ALL, seed=1),
    "all, seed 2": Row(ALL, seed=2),
    "all, twice the time": Row(ALL, times=2.0),
    **{f"{name} pieces": Row((*HOME, "questions", DOCUMENTS, name)) for name in WORDS},
    "1 layer": Row(ALL, layers=(5,)),
    "3 layers": Row(ALL, layers=(0, 2, 5)),
    "4 layers": Row(ALL, layers=(0, 1, 4, 5)),
}


def text_files(data: Path) -> dict[str, Path]:
    made = {name: RUNS / f"abroad_{name}" / f"abroad_{name}.jsonl" for name in ("pieces", "spans")}
    return {"questions": data / "questions" / "queries.tsv", **made, **{name: OUT / "texts" / f"{name}.jsonl" for name in WORDS}}


def main(data: Path, seconds: float, names: list[str]) -> None:
    split_pieces(data)
    lengths = plan_lengths(names or list(ROWS), data, seconds)
    for name, (epochs, batches) in lengths.items():
        if not (OUT / name / "holdout.json").exists():
            make(name, data, epochs, batches)
    print("| row | steps | home: kept nDCG@10, overlap@10 | " + " | ".join(WATCHED) + " | mean of three, overlap@10 |")
    print("|---" * (len(WATCHED) + 4) + "|")
    for name in ROWS:
        if (OUT / name / "holdout.json").exists():
            print(describe(name))


def plan_lengths(names: list[str], data: Path, seconds: float) -> dict[str, tuple[int, int]]:
    """The number of epochs, and of batches in each, that fit into each row's time.

    They are measured of all rows first: what runs beside their trainings changes nothing then.
    """
    path = OUT / f"lengths-{seconds:g}s.json"
    known = read_json(path, "lengths of trainings") if path.exists() else {}
    for name in names:
        if name not in known:
            row = ROWS[name]
            rate = measure_rate(partial(make_module, row), partial(make_data, row, data))
            known[name] = divide_steps(round(row.times * seconds / rate.training * rate.steps), rate.steps)
            write_json(path, known)
    return {name: known[name] for name in names}


def split_pieces(data: Path) -> None:
    """Writes the pieces of each length, and their vectors, as sets of their own."""
    pieces = QueryFile(str(text_files(data)["pieces"])).queries()
    lengths = np.array([len(text.split()) for text in pieces])
    vectors = VectorStore(STORE / "queries-abroad_pieces")
    for name, (fewest, most) in WORDS.items():
        path = text_files(data)[name]
        rows = np.flatnonzero((lengths >= fewest) & (lengths <= most))
        if not path.exists():
            with write_atomically(path) as temporary:
                temporary.write_text("".join(f"{json.dumps({'_id': pieces.ids[row], 'text': pieces[row]})}\n" for row in rows))
        texts = QueryFile(str(path)).queries()
        maker, recorded = vectors.maker, texts.fingerprints("query")[0]
        index = Index(vectors.take(rows).astype(np.float32), list(texts.ids))
        write_store(index.files, StoreWriter(STORE / f"queries-{name}", texts.ids, vectors.width, maker, recorded))


def open_source(data: Path, split: str) -> MsMarcoTsv:
    """MS MARCO; where a student is to learn from other texts alone, a folder beside which these are a split of it."""
    root = data / "msmarco-dl"
    if split != "train":
        root = OUT / "texts" / split
        link_texts(data, split, root)
    return MsMarcoTsv(str(root), holdout=HOLDOUT, relevant_from=2, keep_own_documents=True)


def link_texts(data: Path, split: str, folder: Path) -> None:
    """Makes a folder of MS MARCO with one more split, whose vectors are those of the file it is made of."""
    path, link = text_files(data)[split], STORE / f"queries-{split}"
    if not link.is_symlink():
        link.symlink_to(f"queries-{path.stem}")
    if folder.exists():
        return
    texts = QueryFile(str(path)).queries()
    with write_atomically(folder) as temporary:
        temporary.mkdir(parents=True)
        for file in (data / "msmarco-dl").iterdir():
            (temporary / file.name).symlink_to(file.resolve())
        lines = [f"{id_}\t{text}\n" for id_, text in zip(texts.ids, texts, strict=True)]
        (temporary / f"queries.{split}.tsv").write_text("".join(lines), encoding="utf-8")


def make_data(row: Row, data: Path) -> distill.RetrievalData:
    return distill.RetrievalData(
        open_source(data, row.train),
        str(STORE),
        row.train,
        "dl20",
        queries={str(text_files(data)[text]): SHARES[text] for text in row.texts if text != DOCUMENTS},
        match_documents=SHARES[DOCUMENTS] if DOCUMENTS in row.texts else None,
        dev_suite=suite(data),
        batch_size=BATCH_SIZE,
        seed=row.seed,
    )


def make_module(row: Row) -> distill.StudentModule:
    return distill.StudentModule(StudentFromTeacher(list(row.layers)), {"query_matching": QueryMatching()}, learning_rate=1e-3)


def suite(data: Path) -> list[str]:
    return [str(data / "zeroshot" / watched) for watched in WATCHED]


def make(name: str, data: Path, epochs: int, batches: int) -> None:
    """Trains and measures a row's student."""
    row = ROWS[name]
    run = distill.train(make_module(row), make_data(row, data), OUT / name, max_epochs=epochs, limit_train_batches=batches, devices=1)
    run.evaluate("dl19+dl20", suite=suite(data))
    run.evaluate("holdout", out=str(OUT / name / "holdout.json"))


def divide_steps(steps: int, most_batches: int) -> tuple[int, int]:
    """Returns the number of epochs, and of batches in each, that make so many steps."""
    epochs = math.ceil(steps / most_batches)
    return epochs, max(1, steps // epochs)


def describe(name: str) -> str:
    """A line of the table."""
    results, holdout = (distill.Results.load(OUT / name / file) for file in ("results.json", "holdout.json"))
    home, suite = results.main_retention, results.suite
    settings = distill.Run(OUT / name).folder.settings()["trainer"]
    columns = [
        name,
        f"{settings['max_epochs'] * settings['limit_train_batches']:,}",
        f"{home.value:.1%} [{100 * home.low:.1f}, {100 * home.high:.1f}], {holdout.agreement['overlap@10']:.3f}",
        *(f"{suite.collections[watched]['retention']['ndcg@10']['value']:.1%}" for watched in WATCHED),
        f"{suite.main_retention.value:.1%}, {suite.agreement.value:.3f}",
    ]
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
