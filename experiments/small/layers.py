"""Does a score without training rank students as training does? Cuts of a teacher: how like it they are, and what they become.

    layers.py --data DATA --store STORE --out FILE [--backbone NAME] [--steps 300]

DATA is a folder in MS MARCO layout, STORE the teacher's vectors of it, as experiments/msmarco_dl/run.sh makes them. Each cut learns from
real queries alone, 64 a step. FILE gets a line of JSON for each; a second call goes on with what is missing. Prints rank correlations.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.encoders.layer_choice import measure_alignment
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, StudentSpec, TeacherSpace
from distill.losses.embedding import vector_distances
from distill.metrics.ranking import overlap
from distill.modules.optimizer import make_adamw
from distill.texts.sources import MsMarcoTsv
from distill.vectors.search import search
from distill.vectors.store import TeacherStore

BATCH, LEARNING_RATE, WARM_UP = 64, 1e-3, 0.1
TEXTS_SCORED = 3_000
CUTS_OF_SIX = [[5], [4], [3], [2], [0], [0, 5], [1, 5], [2, 5], [3, 5], [4, 5], [0, 1], [0, 3], [0, 2, 5], [0, 1, 5]]
CUTS_OF_SIX += [[1, 3, 5], [0, 4, 5], [3, 4, 5], [0, 1, 4, 5], [0, 2, 3, 5], [0, 1, 2, 5], [0, 1, 2, 3, 5]]
CUTS_OF_TWELVE = [[11], [10], [5], [0], [0, 11], [5, 11], [0, 5], [9, 11], [10, 11], [0, 5, 11], [0, 10, 11]]
CUTS_OF_BACKBONE = [[3], [5], [0, 5], [2, 5], [4, 5], [0, 1], [0, 2, 5], [0, 4, 5], [0, 1, 4, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5]]


class Judge:
    """What there is to learn, and the teacher's top 10 of held-out queries."""

    def __init__(self, data: Path, folder: Path):
        source = MsMarcoTsv(str(data), keep_own_documents=True, holdout=1000, relevant_from=2)
        store = TeacherStore(folder)
        self.documents = store.documents
        self.space = TeacherSpace(store.maker, store.documents.width, store.documents.normalized)
        self.train, self.holdout = source.queries("train"), source.queries("holdout")
        self.targets, vectors = (
            store.queries(name, texts.fingerprints("query")) for name, texts in (("train", self.train), ("holdout", self.holdout))
        )
        self.targets = self.targets.take(np.arange(len(self.train))).astype(np.float32)
        self.best = self._find_top(vectors.take(np.arange(len(self.holdout))).astype(np.float32))

    def __call__(self, student: Encoder) -> float:
        ids = student.token_ids(list(self.holdout), "query")
        return float(overlap(self.best, self._find_top(encode_token_ids(student.eval(), ids)), 10).mean())

    def read_targets(self, encoder: Encoder, most: int) -> tuple[list[np.ndarray], np.ndarray]:
        return [np.array(ids) for ids in encoder.token_ids(list(self.train)[:most], "query")], self.targets[:most]

    def _find_top(self, vectors: np.ndarray) -> torch.Tensor:
        return search(torch.from_numpy(vectors), self.documents, 10)[1]


def list_cuts(backbone: str | None, depth: int) -> dict[str, StudentSpec]:
    cuts: dict[str, StudentSpec] = {str(layers): StudentFromTeacher(layers) for layers in (CUTS_OF_SIX if depth == 6 else CUTS_OF_TWELVE)}
    if depth == 6:
        cuts |= {f"[0, 5], rows of {width}": StudentFromTeacher([0, 5], table_width=width) for width in (192, 96)}
        cuts["[0, 2, 5], rows of 128"] = StudentFromTeacher([0, 2, 5], table_width=128)
    if backbone is not None:
        cuts |= {f"backbone {layers}": StudentFromBackbone(backbone, "linear", keep_layers=layers) for layers in CUTS_OF_BACKBONE}
        for layers, width in (([0, 5], 192), ([0, 2, 5], 128)):
            name = f"backbone {layers}, rows of {width}"
            cuts[name] = StudentFromBackbone(backbone, "linear", keep_layers=layers, table_width=width)
    return cuts


def score(student: Encoder, token_ids: list[list[int]], targets: np.ndarray) -> float:
    body = Encoder([student.transformer, student.pooling], student.tokenizer, student.settings)
    return measure_alignment(encode_token_ids(body.eval(), token_ids[:TEXTS_SCORED]), targets[:TEXTS_SCORED])


def train(student: Encoder, token_ids: list[list[int]], targets: np.ndarray, steps: int) -> None:
    random = np.random.default_rng(0)
    student.word_table.sparse = True
    dense = [parameter for parameter in student.parameters() if parameter is not student.word_table.weight]
    optimizer = make_adamw(student.train(), LEARNING_RATE)
    orders = (row for _ in itertools.count() for row in random.permutation(len(token_ids)))
    for step in range(steps):
        rate = min((step + 1) / (WARM_UP * steps), (steps - step) / ((1 - WARM_UP) * steps), 1)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        rows = np.fromiter(orders, np.int64, BATCH)
        vectors = student(student.pad([token_ids[row] for row in rows]))
        loss = vector_distances(vectors, torch.from_numpy(targets[rows]), "l2").mean()  # as QueryMatching has it
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(dense, 1.0)
        optimizer.step()


def measure(name: str, spec: StudentSpec, judge: Judge, steps: int) -> dict[str, float | str]:
    torch.manual_seed(0)
    student = spec.make_student(judge.space, read_targets=judge.read_targets)
    token_ids = student.token_ids(list(judge.train), "query")
    parameters = student.parameter_count() - student.word_table.weight.numel()
    row: dict[str, float | str] = {"name": name, "parameters beside the table": parameters, "untrained": judge(student)}
    row["alignment"] = score(student, token_ids, judge.targets)
    row["alignment x root of parameters"] = row["alignment"] * parameters**0.5
    train(student, token_ids, judge.targets, steps)
    return row | {"trained": judge(student)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--store", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--backbone", help="a smaller encoder, whose cuts are tried too")
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    judge = Judge(given.data, given.store)
    depth = StudentFromTeacher().load_whole(judge.space.maker).backbone.config.num_hidden_layers
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for name, spec in list_cuts(given.backbone, depth).items():
        if name not in {row["name"] for row in done}:
            done.append(measure(name, spec, judge, given.steps))
            with open(given.out, "a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(done[-1], flush=True)
    for name in ("alignment", "parameters beside the table", "alignment x root of parameters", "untrained"):
        print(f"{name}: rank correlation {spearmanr([row[name] for row in done], [row['trained'] for row in done])[0]:.3f}")


if __name__ == "__main__":
    main()
