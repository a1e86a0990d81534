"""Watching a run elsewhere: TensorBoard, Weights & Biases, a CSV file; all of it beside metrics.jsonl, which is always there."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from torch import Tensor

from distill.callbacks.retrieval_eval import RetrievalEval
from distill.callbacks.run_log import RunLog
from distill.callbacks.watch import DevWatcher
from distill.files.fingerprints import fingerprint
from distill.records import BadInput, Batch

Tracking = Literal["none", "csv", "tensorboard", "wandb", "wandb-offline"]

EXAMPLES, LISTED = 8, 3  # dev queries in the table of examples, documents of each system
PIXELS = 8  # side of a cell of the picture of similarities


def make_tracker(kind: Tracking, folder: Path, run_made: Any, step: int) -> Logger | None:
    """The logger of a kind; `run_made` is what makes this run another than the last one in the same folder, `step` where it begins.

    Only `wandb` sends anything anywhere. A run that goes on goes on in the same wandb run; offline in a folder of its own, which
    `wandb sync` joins by its id. The axis is trainer/global_step in all of them; what was told of later steps before a kill TensorBoard
    forgets, wandb shows twice.
    """
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    if kind in ("none", "csv"):
        return None
    if kind == "tensorboard":
        return TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=step or None)
    id_ = os.environ.get("WANDB_RUN_ID") or fingerprint(str(folder.resolve()), run_made)  # a sweep names its runs itself
    return WandbLogger(name=folder.name, save_dir=folder, project="distill", id=id_, offline=kind == "wandb-offline", resume="allow")


def check_installed(kind: Tracking) -> None:
    """Refuses a tracker whose package is not here, before anything is made for it."""
    package = kind.partition("-")[0]
    if package in ("tensorboard", "wandb") and find_spec(package) is None:
        raise BadInput(f"tracking: {package} is not installed: install the extra `track`")


def log_lineage(loggers: list[Logger], student: Path, store: Path, metadata: dict[str, Any]) -> None:
    """The student's folder, and which store it learnt from, as artifacts of wandb; the store stays where it is."""
    for run in wandb_runs(loggers):
        import wandb

        vectors = wandb.Artifact(f"store-{metadata['teacher']}", "dataset", metadata={**metadata, "folder": str(store.resolve())})
        vectors.add_file(str(store / "documents" / "manifest.json"), name="documents.json")
        # offline nothing can be looked up: there the store is an output too
        (run.log_artifact if run.settings._offline else run.use_artifact)(vectors)
        model = wandb.Artifact(f"student-{run.id}", "model", metadata=metadata)
        model.add_dir(str(student))
        run.log_artifact(model)


def wandb_runs(loggers: list[Logger]) -> list[Any]:
    from pytorch_lightning.loggers import WandbLogger

    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]


class Meter(Callback):
    """Logs with every line of the log: `optim/learning_rate` and `optim/gradient_norm`; `system/...`, which differs from run to run:
    queries and tokens a second since the last line, GB of memory at its peak, how busy the processor and the GPU are.
    """

    def __init__(self) -> None:
        self._queries = self._tokens = 0
        self._clock = time.perf_counter(), time.process_time()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clock = time.perf_counter(), time.process_time()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self._due(trainer):
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norms = [(g.coalesce().values() if g.is_sparse else g).detach().float().norm() for g in gradients]
            pl_module.log("optim/gradient_norm", torch.stack(norms).norm())
            pl_module.log("optim/learning_rate", float(optimizer.param_groups[0]["lr"]))  # of this step: after it, the schedule moves on

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._queries += len(batch.query_rows) * trainer.world_size
        self._tokens += batch.queries.input_ids.numel() * trainer.world_size  # padding, of which there is little, included
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        before, (wall, busy) = self._clock, (time.perf_counter(), time.process_time())
        seconds = max(wall - before[0], 1e-9)
        found = {
            "queries_per_second": self._queries / seconds,
            "tokens_per_second": self._tokens / seconds,
            "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
            "cpu_percent": 100 * (busy - before[1]) / seconds,
        }
        if pl_module.device.type == "cuda":
            found["gpu_memory_gb"] = torch.cuda.max_memory_allocated(pl_module.device) / (1 << 30)
            with suppress(Exception):  # a measure that needs the driver's library, and its leave, must not end a training
                found["gpu_percent"] = torch.cuda.utilization(pl_module.device)
        pl_module.log_dict({f"system/{name}": float(value) for name, value in found.items()})
        self._clock, self._queries, self._tokens = (wall, busy), 0, 0

    def _due(self, trainer: Trainer) -> bool:
        return (trainer.global_step + 1) % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]


class Examples(DevWatcher):
    """After every evaluation, for trackers that take them: a table of dev queries with the documents that teacher and student put first,
    and a picture of how alike the queries are to the teacher (left) and to the student (right).
    """

    def __init__(self, evaluation: RetrievalEval) -> None:
        super().__init__()
        self._evaluation = evaluation

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        wanting = [logger for logger in trainer.loggers if not isinstance(logger, RunLog)]
        if not wanting or not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        share, *found = self._evaluation.found
        chosen = np.argsort(share)[:EXAMPLES]
        first = [[self._named(data, documents[:LISTED]) for documents in ranked[chosen]] for ranked in found]
        table = [[query, *shown] for query, *shown in zip(data.dev_texts.read(share[chosen]), *first, strict=True)]
        columns, picture = ["query", "teacher", "student"], draw_similarities(teacher[:32], student[:32])
        step = trainer.global_step - 1  # as dev's
        for logger in wanting:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(logger, "log_table"):
                logger.log_table("examples", columns=columns, data=table, step=step)
                logger.log_image("similarities", [picture], step=step)  # type: ignore[attr-defined]
            elif hasattr(experiment, "add_text"):
                lines = ["|".join(columns), "|".join("---" for _ in columns), *("|".join(row) for row in table)]
                experiment.add_text("examples", "\n".join(lines), step)
                experiment.add_image("similarities", picture, step, dataformats="HW")

    def _named(self, data: Any, documents: np.ndarray) -> str:
        return ", ".join(data.store.documents.ids[row] for row in documents)


def draw_similarities(teacher: Tensor, student: Tensor) -> np.ndarray:
    """[n * PIXELS, 2n * PIXELS] uint8: cosines between n queries, black at 0 and white at 1, by either's vectors [n, D]."""
    sides = [torch.nn.functional.normalize(vectors, dim=1) for vectors in (teacher, student)]
    cosines = torch.cat([side @ side.T for side in sides], dim=1).clamp(0, 1)
    return np.kron((255 * cosines).round().numpy().astype(np.uint8), np.ones((PIXELS, PIXELS), np.uint8))
