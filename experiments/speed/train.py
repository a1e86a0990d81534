"""Training throughput of a two-layer student: distill against sentence-transformers' trainer with EmbedDistillLoss.

Both see real queries, as many a round, the same targets and the same student, each in the batches it makes of the whole set; a bare
PyTorch loop does distill's mathematics on distill's batches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from corpora import STUDENT_LAYERS, TEACHER, WIDTH, queries, random_store, student
from harness import alone, arguments, figure, gemm_gflops, measure, peak_mb, report, threaded
from pytorch_lightning import LightningDataModule, Trainer

from distill.data.loaders import epoch_batches, make_collate
from distill.encoders.encoder import Encoder
from distill.encoders.maker import Maker
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.files.device import autocast, has_fast_bf16
from distill.losses import QueryMatching
from distill.losses.embedding import vector_distances
from distill.modules.optimizer import make_adamw
from distill.modules.student import StudentModule
from distill.records import Batch
from distill.teachers.stored import StoredQueries, StoredTeacher
from distill.teachers.teacher import Teacher
from distill.texts.texts import Texts
from distill.texts.tokens import TokenArrays, load_or_tokenize
from distill.training.settings import quiet_lightning
from distill.vectors.store import VectorStore

STEPS = {64: 32, 256: 8}  # of a round, by batch size
FLOP_PER_TOKEN = 21.2e6  # forward and backward of two layers of 384


class Steps:
    """Some of an epoch's batches, spread evenly over the lengths, so that few steps cost what an epoch's do on average."""

    def __init__(self, tokens: TokenArrays, batch_size: int):
        batches = epoch_batches(tokens.lengths, batch_size, seed=0, epoch=0)
        by_length = batches[np.argsort(tokens.lengths[batches].sum(1), kind="stable")]
        middles = (np.arange(STEPS[batch_size]) + 0.5) / STEPS[batch_size] * len(by_length)
        self.rows = np.random.default_rng(0).permutation(by_length[middles.astype(int)])  # [steps, batch_size]
        self.tokens = int(tokens.lengths[self.rows].sum())
        self.collate = make_collate(tokens, np.empty((len(tokens), 0), np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.collate, self.rows)


class Batches(LightningDataModule):
    """The training part of `RetrievalData`, over vectors that need no teacher run."""

    candidates, labelled = 0, False
    teachers: ClassVar[dict[str, Teacher]] = {}
    dev_qrels = None
    dev_collections = ()

    def __init__(self, steps: Steps, store: VectorStore):
        super().__init__()
        self.steps, self.batch_size = steps, steps.rows.shape[1]
        self.teacher = StoredTeacher(StoredQueries([store], [np.arange(len(store))]), store)
        self.teacher_space = TeacherSpace(Maker(TEACHER, ""), WIDTH, True)

    def connect(self, encoder: Encoder, document_tower: Encoder | None = None) -> None:
        """The tokens are made already."""

    def count_tokens(self, encoder: Encoder) -> np.ndarray:
        """Each token once: the student keeps them all."""
        return np.ones(len(encoder.tokenizer), np.int64)

    def train_dataloader(self) -> Steps:
        return self.steps


def ours(data: Batches, device: str) -> Callable[[], int]:
    quiet_lightning()
    module = StudentModule(StudentFromTeacher(STUDENT_LAYERS, teacher=TEACHER), {"query_matching": QueryMatching()})

    def contender() -> int:
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        precision = "bf16-mixed" if has_fast_bf16(device) else "32-true"
        accelerator = "cpu" if device == "cpu" else "gpu"
        Trainer(max_epochs=1, accelerator=accelerator, devices=1, precision=precision, limit_val_batches=0, **options).fit(module, data)
        return data.steps.rows.size

    return contender


def bare(data: Batches, device: torch.device) -> Callable[[], int]:
    encoder = student().prepare_for(device)
    encoder.word_table.sparse = device.type == "cpu"
    optimizer = make_adamw(encoder, 1e-3)

    def contender() -> int:
        for batch in (batch.to(device) for batch in data.steps):
            target = data.teacher(batch).query
            with autocast("auto", device):
                vectors = encoder(batch.queries)
            vector_distances(vectors.float(), target, "l2").mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return data.steps.rows.size

    return contender


def peer(data: Batches, texts: Texts, vectors: VectorStore, folder: str, device: str) -> Callable[[], int]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import EmbedDistillLoss

    steps, batch_size = data.steps.rows.shape
    drawn = np.random.default_rng(0).permutation(len(texts))[: steps * batch_size]  # what its own random batches hold on average
    rows = Dataset.from_dict({"sentence": texts.read(drawn), "label": vectors.take(drawn).astype(np.float32).tolist()})
    model = SentenceTransformer(folder, device=device)

    def contender() -> int:
        with tempfile.TemporaryDirectory() as out:
            options = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
            settings = SentenceTransformerTrainingArguments(
                out, max_steps=steps, per_device_train_batch_size=batch_size, use_cpu=device == "cpu", **options
            )
            SentenceTransformerTrainer(model, settings, train_dataset=rows, loss=EmbedDistillLoss(model, distance_metric="l2")).train()
        return drawn.size

    return contender


def prepared(data: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds that the queries take from text to token arrays, in a cache of their own; then trains, and its peak memory in MB."""
    import os

    os.environ["DISTILL_CACHE"] = str(folder / "cache")
    encoder = student()
    start = time.perf_counter()
    texts = queries(data)
    tokens = load_or_tokenize(texts, encoder, "query")
    seconds = time.perf_counter() - start
    store = random_store(folder / "store", texts)
    before = peak_mb()
    ours(Batches(Steps(tokens, 64), store), "cpu")()
    return seconds, before, peak_mb()


def main() -> None:
    given = arguments(__doc__, devices=("cpu", "cuda"))
    with tempfile.TemporaryDirectory() as folder:
        seconds, _, memory = alone(prepared, given.data, Path(folder))
        texts = queries(given.data)
        rows, fractions = bench(given, texts, Path(folder))
    rows.append(figure(f"preparation of {len(texts):,} queries", seconds, "s"))
    rows.append(figure("training alone, peak memory", memory, "MB"))
    settings = {"queries": len(texts), "layers": STUDENT_LAYERS, "steps": STEPS}
    report("train", given, settings, rows, statistics.median(fractions), memory)


def bench(given: argparse.Namespace, texts: Texts, folder: Path) -> tuple[list[dict], list[float]]:
    """Rows, and which part of the matrix product rate distill reached in each setting."""
    store, rows, fractions = VectorStore(folder / "store"), [], []
    tokens = load_or_tokenize(texts, student(), "query")
    student().save_pretrained(folder / "student")
    for _, setting in threaded(given):
        for batch_size in STEPS:
            data = Batches(Steps(tokens, batch_size), store)
            contenders = {
                "distill": ours(data, given.device),
                "sentence-transformers": peer(data, texts, store, str(folder / "student"), given.device),
                "bare loop, same batches": bare(data, torch.device(given.device)),
            }
            before = gemm_gflops(torch.bfloat16, given.device)
            where = f"batch {batch_size}, {setting}"
            found = measure(contenders, given, "queries", where, "sentence-transformers", "bare loop, same batches")
            rate = (before + gemm_gflops(torch.bfloat16, given.device)) / 2
            tokens_a_second = found[0]["value"] * data.steps.tokens / data.steps.rows.size
            fractions.append(tokens_a_second * FLOP_PER_TOKEN / 1e9 / rate)
            rows += found
            rows.append(figure(f"distill, {where}", tokens_a_second, "tokens/wall s"))
            rows.append(figure(f"distill, {where}", tokens_a_second * FLOP_PER_TOKEN / 1e9, "GFLOP/s"))
            rows.append(figure(f"bf16 matrix product, {setting}", rate, "GFLOP/s"))
    return rows, fractions


if __name__ == "__main__":
    main()
