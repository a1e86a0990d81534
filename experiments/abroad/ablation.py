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
from distill.files.atomic import read_json, write_atomically
from distill.losses import QueryMatching
from distill.shrinking.budget import measure_rate
from distill.texts.sources import MsMarcoTsv, QueryFile
from distill.texts.texts import Texts
from distill.vectors.import_vectors import write_store
from distill.vectors.index import Index
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

RUNS = Path("runs")
OUT, STORE = RUNS / "abroad_rows", RUNS / "abroad_teacher"
WATCHED = ("cisi", "datafinder", "climatefever-ev")
WORDS = {"short": (3, 12), "middle": (13, 45), "long": (46, 160)}  # pieces of each length: about as many of each
DOCUMENTS = "documents"
SHARES = {"spans": 2.0, "questions": 4.9, "pieces": 20.0, DOCUMENTS: 2.0, **dict.fromkeys(WORDS, 6.6)}  # for each query of `train`
HOME = ("spans",)
ALL = ("spans", "questions", DOCUMENTS, "pieces")
BATCH_SIZE = 64


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
    "1 layer": Row(ALL, layers=(0,)),
    "3 layers": Row(ALL, layers=(0, 2, 5)),
    "4 layers": Row(ALL, layers=(0, 1, 4, 5)),
}


class MsMarcoAndTexts(MsMarcoTsv):
    """MS MARCO, with files of other texts as splits to train on."""

    def list_splits(self) -> list[str]:
        return [*super().list_splits(), "questions", "pieces"]

    def load_queries(self, split: str) -> Texts:
        path = text_files(self.root.parent).get(split)
        return super().load_queries(split) if path is None else QueryFile(str(path)).queries()


def text_files(data: Path) -> dict[str, Path]:
    made = {name: RUNS / f"abroad_{name}" / f"abroad_{name}.jsonl" for name in ("pieces", "spans")}
    return {"questions": data / "questions" / "queries.tsv", **made, **{name: OUT / "texts" / f"{name}.jsonl" for name in WORDS}}


def main(data: Path, seconds: float, names: list[str]) -> None:
    split_pieces(data)
    link_sets(data)
    for name in names or ROWS:
        if not (OUT / name / "holdout.json").exists():
            make(name, ROWS[name], data, seconds)
    print("| row | steps | home: kept nDCG@10, overlap@10 | " + " | ".join(WATCHED) + " | mean of three, overlap@10 |")
    print("|---" * (len(WATCHED) + 4) + "|")
    for name in ROWS:
        if (OUT / name / "holdout.json").exists():
            print(describe(name))


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


def link_sets(data: Path) -> None:
    """Makes the vectors of files known under the names of the splits that are made of them."""
    for split in ("questions", "pieces"):
        link = STORE / f"queries-{split}"
        if not link.is_symlink():
            link.symlink_to(f"queries-{text_files(data)[split].stem}")


def make(name: str, row: Row, data: Path, seconds: float) -> None:
    """Trains and measures a row's student."""
    source = MsMarcoAndTexts(str(data / "msmarco-dl"), holdout=1000, relevant_from=2, keep_own_documents=True)
    files = {str(text_files(data)[text]): SHARES[text] for text in row.texts if text != DOCUMENTS}
    make_data = partial(
        distill.RetrievalData,
        source,
        str(STORE),
        row.train,
        "dl20",
        queries=files,
        match_documents=SHARES[DOCUMENTS] if DOCUMENTS in row.texts else None,
        dev_suite=[str(data / "zeroshot" / watched) for watched in WATCHED],
        batch_size=BATCH_SIZE,
        seed=row.seed,
    )
    student, losses = StudentFromTeacher(list(row.layers)), {"query_matching": QueryMatching()}
    make_module = partial(distill.StudentModule, student, losses, learning_rate=1e-3)
    rate = measure_rate(make_module, make_data)
    epochs, batches = divide_steps(round(row.times * seconds / rate.training * rate.texts / BATCH_SIZE), rate.texts // BATCH_SIZE)
    run = distill.train(make_module(), make_data(), OUT / name, max_epochs=epochs, limit_train_batches=batches, devices=1)
    suite = [str(data / "zeroshot" / watched) for watched in WATCHED]
    run.evaluate("dl19+dl20", suite=suite)
    run.evaluate("holdout", out=str(OUT / name / "holdout.json"))


def divide_steps(steps: int, most_batches: int) -> tuple[int, int]:
    """Returns the number of epochs, and of batches in each, that make so many steps."""
    epochs = math.ceil(steps / most_batches)
    return epochs, max(1, steps // epochs)


def describe(name: str) -> str:
    """A line of the table."""
    results, holdout = (read_json(OUT / name / file, "results") for file in ("results.json", "holdout.json"))
    home, suite = results["retention"]["ndcg@10"], results["suite"]
    kept = {watched: row["retention"]["ndcg@10"]["value"] for watched, row in suite["collections"].items()}
    settings = distill.Run(OUT / name).folder.settings()["trainer"]
    columns = [
        name,
        f"{settings['max_epochs'] * settings['limit_train_batches']:,}",
        f"{home['value']:.1%} [{100 * home['ci95'][0]:.1f}, {100 * home['ci95'][1]:.1f}], {holdout['agreement']['overlap@10']:.3f}",
        *(f"{kept[watched]:.1%}" for watched in WATCHED),
        f"{suite['retention']['ndcg@10']['value']:.1%}, {suite['overlap@10']['value']:.3f}",
    ]
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
