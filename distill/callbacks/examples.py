"""Logs example dev queries to trackers that show tables and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import Logger
from torch import Tensor

from distill.callbacks.dev_evaluation import DevWatcher
from distill.callbacks.retrieval_eval import RetrievalEval
from distill.callbacks.run_log import RunLog

QUERIES = 8  # rows of the table
DOCUMENTS = 3  # documents of teacher and of student in a row
QUERIES_COMPARED = 32  # queries in the picture of similarities
PIXELS = 8  # width and height of a cell of the picture
COLUMNS = ["query", "teacher", "student"]


class Examples(DevWatcher):
    """Logs a table and a picture of dev queries after every evaluation, to trackers that show them.

    The table has the documents that teacher and student rank first for a query. The picture shows the cosines between the teacher's
    query vectors (left) and between the student's (right).

    Args:
        evaluation: the callback that ranks the documents; it must run before this one.
    """

    def __init__(self, evaluation: RetrievalEval) -> None:
        super().__init__()
        self._evaluation = evaluation

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        trackers = [logger for logger in trainer.loggers if not isinstance(logger, RunLog)]
        if not trackers or not trainer.is_global_zero:
            return
        table = self._make_table()
        picture = draw_similarities(teacher[:QUERIES_COMPARED], student[:QUERIES_COMPARED])
        for tracker in trackers:
            log_examples(tracker, table, picture, step=trainer.global_step - 1)  # the step of the dev metrics

    def _make_table(self) -> list[list[str]]:
        """Makes a row for each of the first dev queries: its text, and the ids of the documents that teacher and student rank first."""
        rankings = self._evaluation.rankings
        assert rankings is not None, "RetrievalEval ranks before examples are shown"
        places = np.argsort(rankings.query_rows)[:QUERIES]
        queries = self.data.dev_texts.read(rankings.query_rows[places])
        teacher = [self._join_ids(documents) for documents in rankings.teacher[places, :DOCUMENTS]]
        student = [self._join_ids(documents) for documents in rankings.student[places, :DOCUMENTS]]
        return [list(row) for row in zip(queries, teacher, student, strict=True)]

    def _join_ids(self, documents: np.ndarray) -> str:
        return ", ".join(self.data.store.documents.ids[row] for row in documents if row >= 0)


def log_examples(tracker: Logger, table: list[list[str]], picture: np.ndarray, step: int) -> None:
    """Logs table and picture to wandb, or to TensorBoard, where the table is Markdown; does nothing for other trackers."""
    experiment: Any = getattr(tracker, "experiment", None)
    if hasattr(tracker, "log_table"):
        tracker.log_table("examples", columns=COLUMNS, data=table, step=step)
        tracker.log_image("similarities", [picture], step=step)  # type: ignore[attr-defined]
    elif hasattr(experiment, "add_text"):
        lines = [COLUMNS, ["---"] * len(COLUMNS), *table]
        experiment.add_text("examples", "\n".join("|".join(cells) for cells in lines), step)
        experiment.add_image("similarities", picture, step, dataformats="HW")


def draw_similarities(teacher: Tensor, student: Tensor) -> np.ndarray:
    """Draws the cosines between n queries, black at 0 and white at 1: [n * PIXELS, 2n * PIXELS] uint8, the teacher's on the left.

    Args:
        teacher: [n, D] the teacher's vectors.
        student: [n, D] the student's vectors.
    """
    unit = [torch.nn.functional.normalize(vectors, dim=1) for vectors in (teacher, student)]
    cosines = torch.cat([vectors @ vectors.T for vectors in unit], dim=1).clamp(0, 1)  # [n, 2n]
    shades = (255 * cosines).round().numpy().astype(np.uint8)
    return np.kron(shades, np.ones((PIXELS, PIXELS), np.uint8))
