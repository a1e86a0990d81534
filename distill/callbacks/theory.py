"""The measurable terms of Theorem 3.1 of EmbedDistill beside the gap that they bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from distill.callbacks.watch import DevWatcher
from distill.losses.embedding import vector_distances
from distill.modules.student import STORE
from distill.vectors.search import search

CANDIDATES = 10  # the teacher's own first documents: the pairs whose risk is compared


class Theory(DevWatcher):
    """Logs after every validation, as `theory/...`:

    `r_emb_q`, the mean distance of the student's dev queries to the teacher's, and `r_emb_q_train`, the same over the training batches
    since the last evaluation; `r_emb_d_train` where the student embeds documents itself (inherited ones are at distance 0). Where dev
    is judged, over each judged query and the teacher's first documents: `teacher_deviation`, the mean |sigmoid(score) - label|, which
    no student changes, and `gap`, the student's risk less the teacher's under the logistic loss; not where the student embeds documents.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, float] = {}
        self._pairs: tuple[Tensor, Tensor, Tensor] | None = None  # judged places [J] in dev, labels [J, K], documents [J, K, D]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        module: Any = pl_module
        student, teachers, _ = module.last_step
        measured = {"r_emb_q_train": (student.query, teachers[STORE].query)}
        if student.document.requires_grad:
            measured["r_emb_d_train"] = (student.document, teachers[STORE].document)
        for key, (ours, theirs) in measured.items():
            self._sums[key] = self._sums.get(key, 0.0) + vector_distances(ours.detach(), theirs, "l2").mean()  # type: ignore[assignment]
        self._sums["batches"] = self._sums.get("batches", 0.0) + 1

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        values = {"r_emb_q": float(vector_distances(student, teacher, "l2").mean())}
        batches = self._sums.pop("batches", 1.0)
        values |= {name: float(total) / batches for name, total in self._sums.items()}
        self._sums = {}
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data.dev_qrels is not None and getattr(module, "document_tower", None) is None:
            self._pairs = self._pairs or find_judged_pairs(data, rows, teacher.to(module.device))
            values |= measure_risks(*self._pairs, student, teacher)
        module.log_dict({f"theory/{name}": value for name, value in values.items()}, batch_size=len(rows))

    def state_dict(self) -> dict[str, Any]:
        return {name: float(value) for name, value in self._sums.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums = dict(state_dict)


def measure_risks(judged: Tensor, labels: Tensor, documents: Tensor, student: Tensor, teacher: Tensor) -> dict[str, float]:
    """How far the teacher's probabilities are from the labels [J, K], and the student's logistic loss less the teacher's."""
    if not len(judged):
        return {"teacher_deviation": 0.0, "gap": 0.0}
    ours, theirs = (torch.einsum("qd,qkd->qk", vectors[judged], documents) for vectors in (student, teacher))
    gap = F.binary_cross_entropy_with_logits(ours, labels) - F.binary_cross_entropy_with_logits(theirs, labels)
    return {"teacher_deviation": float((theirs.sigmoid() - labels).abs().mean()), "gap": float(gap)}


def find_judged_pairs(data: Any, rows: np.ndarray, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which of the dev queries `rows` are judged [J], whether the teacher's first K documents are relevant [J, K], their vectors."""
    documents = data.store.documents
    ids = [data.dev_texts.ids[row] for row in rows]
    judged = torch.from_numpy(data.dev_qrels.judged(ids))
    found = search(teacher[judged.to(teacher.device)], documents, min(CANDIDATES, len(documents)))[1].cpu()
    grades, _ = data.dev_qrels.grade([ids[query] for query in judged.tolist()], documents.ids, found.numpy())
    vectors = torch.from_numpy(documents.take(found.numpy().ravel())).float().reshape(*found.shape, documents.width)
    return judged, torch.from_numpy(grades >= data.source.relevant_from).float(), vectors
