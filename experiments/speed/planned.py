"""What `distill plan` says of a job beside what the job takes: encode, train and evaluate, planned and run in turn, round after round.

    planned.py --data FOLDER --rounds 3 --documents 24884 --queries 12816 --json FILE

Seconds are of the processor with one thread, as other work on the machine would disturb those of the clock. The time of an epoch is the
difference of two trainings, as a plan leaves out what a training does once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from corpora import STUDENT_LAYERS, TEACHER

import distill
from distill.files.atomic import write_json
from distill.teachers.embedder import encode_set
from distill.teachers.local import load_local_teacher

FEW, MANY = 1, 3  # epochs of two trainings
SPLITS = "dl19+dl20"


def copy_part(data: Path, folder: Path, documents: int, queries: int) -> Path:
    """The first lines of the corpus and of the training queries, and the other splits whole."""
    folder.mkdir()
    for name, count in (("collection.tsv", documents), ("queries.train.tsv", queries)):
        with open(data / name, encoding="utf-8") as file:
            (folder / name).write_text("".join(islice(file, count)), encoding="utf-8")
    for path in data.glob("*.dl*.tsv"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    outcome = work()
    return time.perf_counter() - start, outcome


def run_job(texts: Path, folder: Path) -> dict[str, float]:
    """Seconds and bytes of each step."""
    source = distill.MsMarcoTsv(str(texts), relevant_from=2, keep_own_documents=True)
    teacher, store = load_local_teacher(TEACHER, "auto"), folder / "store"
    sets = [(f"queries-{split}", source.queries(split)) for split in source.splits()]
    taken = {"encode documents": timed(lambda: encode_set(teacher, source.documents(), "document", store / "documents"))[0]}
    taken["encode queries"] = sum(timed(lambda: encode_set(teacher, part, "query", store / name))[0] for name, part in sets)  # noqa: B023
    epochs = {}
    for count in (FEW, MANY):
        module = distill.StudentModule(distill.StudentFromTeacher(STUDENT_LAYERS))
        data = distill.RetrievalData(source, str(store), dev="dl19")
        epochs[count], run = timed(lambda: distill.train(module, data, folder / f"run{count}", max_epochs=count))  # noqa: B023
    taken["epoch"] = (epochs[MANY] - epochs[FEW]) / (MANY - FEW)
    taken["evaluate"] = timed(lambda: run.evaluate(SPLITS))[0]
    taken["export"] = timed(run.export)[0]
    bytes_of = {name: sum(path.stat().st_size for path in (folder / name).rglob("*")) for name in (f"run{MANY}", f"run{MANY}/export")}
    taken["disk of the run"] = bytes_of[f"run{MANY}"] - bytes_of[f"run{MANY}/export"]
    taken["disk of the export"] = bytes_of[f"run{MANY}/export"]
    taken["disk of the documents"] = sum(path.stat().st_size for path in (store / "documents").iterdir())
    return taken


def plan_job(texts: Path) -> dict[str, float]:
    """What the plan says of the same."""
    outcome, steps = distill.plan(TEACHER, str(texts), epochs=MANY), {}
    for name in ("encode documents", "encode queries", "evaluate", "export"):
        steps[name] = outcome[name].seconds or 0.0
    steps["epoch"] = (outcome["train"].seconds + outcome["dev"].seconds) / MANY
    steps["disk of the run"], steps["disk of the export"] = outcome["train"].disk, outcome["export"].disk
    return {**steps, "disk of the documents": outcome["encode documents"].disk}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds msmarco-dl")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=24_884)
    parser.add_argument("--queries", type=int, default=13_816)
    given = parser.parse_args()
    torch.set_num_threads(1)
    time.perf_counter = time.process_time  # plan and job count the same seconds
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        texts = copy_part(given.data / "msmarco-dl", Path(name) / "texts", given.documents, given.queries)
        for number in range(given.rounds):
            planned = plan_job(texts)
            rounds.append({"planned": planned, "measured": run_job(texts, Path(name) / f"round{number}")})
            write_json(given.json, rounds)
    for key in rounds[0]["planned"]:
        values = {kind: statistics.median(pair[kind][key] for pair in rounds) for kind in ("planned", "measured")}
        ratios = [round(pair["planned"][key] / pair["measured"][key], 2) for pair in rounds]
        print(f"| {key} | {values['planned']:.4g} | {values['measured']:.4g} | {ratios} |")


if __name__ == "__main__":
    main()
