"""Time to quality: CPU seconds until a two-layer student finds 65% of its teacher's top 10, distill against sentence-transformers' trainer.

    quality.py --data FOLDER --store STORE --spans FILE --json FILE

FOLDER holds msmarco-dl; experiments/msmarco_dl/run.sh makes STORE and the spans. Both contenders read the same texts and the same vectors
of the teacher, start from the same two layers, and are whole processes of one thread. Each first tries ever longer schedules until one
reaches the target on 1,000 held-out queries; then these two take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from corpora import student
from harness import figure, report

from distill.encoders.folder import load_encoder
from distill.metrics.ranking import overlap
from distill.texts.sources import MsMarcoTsv, QueryFile
from distill.texts.texts import concatenate_texts
from distill.vectors.search import search
from distill.vectors.store import TeacherStore

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "experiments" / "msmarco_dl" / "train.yaml"
OUR_STEPS = (160, 200, 240, 280, 320, 400, 480, 640, 800)
PEER_STEPS = (400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2000, 2400)
PEER_RATE = 1e-3  # as distill's; with its default, 5e-5, it needs far more steps
BATCH = 64
SPANS_FOR_A_QUERY = 3.8  # all of them in an epoch

Contender = Callable[[int, Path], Path]  # trains so many steps in a folder; returns that of the student


class Judge:
    """Measures how many of the teacher's top 10 passages a student finds for held-out queries."""

    def __init__(self, source: MsMarcoTsv, store: TeacherStore):
        self.texts = source.queries("holdout")
        self.documents = store.documents
        vectors = store.queries("holdout", self.texts.fingerprints("query"))
        self.best = self._find_top(vectors.take(np.arange(len(vectors))))

    def __call__(self, folder: Path) -> float:
        encoder = load_encoder(str(folder)).prepare_for(torch.device("cpu"))
        return float(overlap(self.best, self._find_top(encoder.encode_query(list(self.texts))), 10).mean())

    def _find_top(self, vectors: np.ndarray) -> torch.Tensor:
        return search(torch.from_numpy(np.asarray(vectors, np.float32)), self.documents, 10)[1]


def open_source(data: Path) -> MsMarcoTsv:
    return MsMarcoTsv(str(data / "msmarco-dl"), keep_own_documents=True, holdout=1000, relevant_from=2)


def train_ours(given: argparse.Namespace, steps: int, folder: Path) -> Path:
    options = {
        "--config": CONFIG,
        "--data.source.init_args.root": given.data / "msmarco-dl",
        "--data.store": given.store,
        "--data.queries": f"{{{given.spans}: {SPANS_FOR_A_QUERY}}}",
        "--trainer.max_steps": steps,
        "--out": folder,
    }
    run_alone(folder.with_suffix(".log"), "-m", "distill", "train", *(str(part) for option in options.items() for part in option))
    return folder / "student"


def train_peer(given: argparse.Namespace, steps: int, folder: Path) -> Path:
    start = folder.with_name("start")
    student().save_pretrained(start)  # here, so that its time is not the peer's
    same = {"--data": given.data, "--store": given.store, "--spans": given.spans}
    options = {**same, "--peer_steps": steps, "--start": start, "--out": folder}
    run_alone(folder.with_suffix(".log"), __file__, *(str(part) for option in options.items() for part in option))
    return folder


def run_alone(log: Path, *command: str) -> None:
    """Runs a Python program in a process of its own, with one thread and without a network."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with open(log, "w") as file:
        done = subprocess.run([sys.executable, *command], env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(log.read_text()[-2000:])


def be_the_peer(given: argparse.Namespace) -> None:
    """Trains with sentence-transformers on the texts that its steps need, drawn from all."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss

    queries, spans = open_source(given.data).queries("train"), QueryFile(str(given.spans)).queries()
    store = TeacherStore(given.store)
    sets = [store.queries("train", queries.fingerprints("query")), store.queries(given.spans.stem, spans.fingerprints("query"))]
    vectors = np.concatenate([part.take(np.arange(len(part))) for part in sets])
    texts = concatenate_texts([queries, spans])
    orders = [np.random.default_rng(epoch).permutation(len(texts)) for epoch in range(1 + given.peer_steps * BATCH // len(texts))]
    drawn = np.concatenate(orders)[: given.peer_steps * BATCH]
    rows = Dataset.from_dict({"sentence": texts.read(drawn), "label": vectors[drawn].astype(np.float32)})
    model = SentenceTransformer(str(given.start), device="cpu")
    options = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "learning_rate": PEER_RATE}
    settings = SentenceTransformerTrainingArguments(
        str(given.out), max_steps=given.peer_steps, per_device_train_batch_size=BATCH, **options
    )
    SentenceTransformerTrainer(model, settings, train_dataset=rows, loss=EmbedDistillLoss(model, distance_metric="l2")).train()
    model.save_pretrained(str(given.out))


def measure_run(contender: Contender, steps: int, judge: Judge, name: str) -> tuple[float, float]:
    """CPU seconds of a training's whole process, and the agreement of its student."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        trained = contender(steps, Path(folder) / "run")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        agreement = judge(trained)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {steps:,} steps, {seconds:.0f} CPU s, overlap@10 {agreement:.4f}", flush=True)
    return seconds, agreement


def find_schedule(contender: Contender, ladder: tuple[int, ...], judge: Judge, target: float, name: str) -> int:
    """The shortest schedule that reaches the target."""
    for steps in ladder:
        if measure_run(contender, steps, judge, name)[1] >= target:
            return steps
    raise SystemExit(f"{name}: does not reach {target} in {ladder[-1]:,} steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--store", "--spans"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--target", type=float, default=0.65)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--from_steps", type=int, nargs=2, default=(0, 0), help="begin the search at these schedules, distill's and the peer's"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer_steps", type=int, help=argparse.SUPPRESS)  # the script runs itself as the peer
    for name in ("--start", "--out"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer_steps:
        be_the_peer(given)
        return
    given.threads, given.device = [1], "cpu"
    contenders = {
        "distill": lambda steps, folder: train_ours(given, steps, folder),
        "sentence-transformers": lambda steps, folder: train_peer(given, steps, folder),
    }
    ladders = {"distill": OUR_STEPS, "sentence-transformers": PEER_STEPS}
    firsts = dict(zip(contenders, given.from_steps, strict=True))
    judge = Judge(open_source(given.data), TeacherStore(given.store))
    chosen = {
        name: find_schedule(contender, tuple(steps for steps in ladders[name] if steps >= firsts[name]), judge, given.target, name)
        for name, contender in contenders.items()
    }
    turns = [{name: measure_run(contenders[name], chosen[name], judge, name) for name in contenders} for _ in range(given.rounds)]
    rows = []
    for name in contenders:
        seconds, agreements = zip(*(turn[name] for turn in turns), strict=True)
        rows.append(figure(f"{name}, {chosen[name]:,} steps", statistics.median(seconds), "CPU s") | {"rounds": seconds})
        rows.append(figure(f"{name}, overlap@10", statistics.median(agreements), "") | {"rounds": agreements})
    rows[0]["ratio_to_peer"] = statistics.median(turn["sentence-transformers"][0] / turn["distill"][0] for turn in turns)
    report("quality", given, {"target": given.target, "batch": BATCH}, rows)


if __name__ == "__main__":
    main()
