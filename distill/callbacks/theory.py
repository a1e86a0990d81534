"""Logs the terms of Theorem 3.1 of EmbedDistill that can be measured, and the gap that they bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from distill.callbacks.dev_evaluation import DevWatcher
from distill.data.datamodule import RetrievalData
from distill.losses.embedding import vector_distances
from distill.modules.student import STORE
from distill.texts.qrels import Qrels
from distill.vectors.sharded import search_shares

CANDIDATES = 10  # top documents of the teacher, for each judged query, on which the risks are compared


@dataclass(frozen=True)
class JudgedPairs:
    """The judged dev queries, each with the K documents that the teacher ranks highest."""

    queries: Tensor  # [J] int64, positions among the dev queries
    labels: Tensor  # [J, K] float32, 1 where the document is relevant
    documents: Tensor  # [J, K, D] float32, the teacher's vectors


class Theory(DevWatcher):
    """Logs `theory/...` after every validation.

    - `r_emb_q`: mean distance between the student's and the teacher's vectors of the dev queries.
    - `r_emb_q_train`: the same for the queries of the training batches since the last evaluation.
    - `r_emb_d_train`: the same for the documents of these batches, if the student embeds documents itself.

    For a student that inherits document vectors, on judged dev queries and the teacher's top documents:

    - `teacher_deviation`: mean |sigmoid(score) - label| of the teacher, which does not depend on the student.
    - `gap`: logistic loss of the student minus that of the teacher.
    """

    def __init__(self) -> None:
        super().__init__()
        # for each term the sum over training batches of their mean distances; "batches" is the number of batches
        self._sums: dict[str, float | Tensor] = {}
        self._pairs: JudgedPairs | None = None
        self._pair_rows = np.empty(0, np.int64)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        module: Any = pl_module
        student, teacher = module.last_step.student, module.last_step.teachers[STORE]
        self._add("r_emb_q_train", _mean_distance(student.query.detach(), teacher.query))
        if student.document.requires_grad:
            self._add("r_emb_d_train", _mean_distance(student.document.detach(), teacher.document))
        self._add("batches", 1.0)

    def on_dev(self, trainer: Trainer, module: LightningModule, rows: np.ndarray, student: Tensor, teacher: Tensor) -> None:
        values = {"r_emb_q": float(_mean_distance(student, teacher))}
        batches = float(self._sums.pop("batches", 1.0))
        values |= {name: float(total) / batches for name, total in self._sums.items()}
        self._sums = {}
        qrels = self.data.dev_qrels
        if qrels is not None and getattr(module, "document_tower", None) is None:
            if self._pairs is None or not np.array_equal(self._pair_rows, rows):  # a first check may be of some of the queries
                self._pair_rows = rows
                self._pairs = find_judged_pairs(self.data, qrels, rows, teacher.to(module.device))
            values |= measure_risks(self._pairs, student, teacher)
        module.log_dict({f"theory/{name}": value for name, value in values.items()}, batch_size=len(rows))

    def state_dict(self) -> dict[str, Any]:
        return {name: float(value) for name, value in self._sums.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums = dict(state_dict)

    def _add(self, name: str, value: float | Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value  # stays on the device, so that the training does not wait for it


def measure_risks(pairs: JudgedPairs, student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Measures how far the teacher's probabilities are from the labels, and the student's logistic loss minus the teacher's.

    Args:
        pairs: J judged queries and their documents.
        student: [Q, D] vectors of all dev queries.
        teacher: [Q, D] vectors of all dev queries.
    """
    if not len(pairs.queries):
        return {"teacher_deviation": 0.0, "gap": 0.0}
    student_scores = torch.einsum("qd,qkd->qk", student[pairs.queries], pairs.documents)  # [J, K]
    teacher_scores = torch.einsum("qd,qkd->qk", teacher[pairs.queries], pairs.documents)  # [J, K]
    student_risk = F.binary_cross_entropy_with_logits(student_scores, pairs.labels)
    teacher_risk = F.binary_cross_entropy_with_logits(teacher_scores, pairs.labels)
    deviation = (teacher_scores.sigmoid() - pairs.labels).abs().mean()
    return {"teacher_deviation": float(deviation), "gap": float(student_risk - teacher_risk)}


def find_judged_pairs(data: RetrievalData, qrels: Qrels, rows: np.ndarray, teacher: Tensor) -> JudgedPairs:
    """Searches the teacher's top documents for the judged dev queries.

    Args:
        data: the store and the dev queries.
        qrels: judgments of the dev queries.
        rows: [Q] int64, rows of the dev queries.
        teacher: [Q, D] the teacher's vectors of these queries, on the device that searches.
    """
    documents = data.store.documents
    ids = [data.dev_texts.ids[row] for row in rows]
    judged = torch.from_numpy(qrels.judged_positions(ids))  # [J]
    own = data.dev_own_documents
    left_out = None if own is None else own[rows[judged.numpy()]]
    others = len(documents) - (own is not None)  # a query's own document is no answer
    ranked = search_shares(teacher[judged.to(teacher.device)], documents, max(1, min(CANDIDATES, others)), left_out)[1].cpu()  # [J, K]
    grades, _ = qrels.grade([ids[position] for position in judged.tolist()], documents.ids, ranked.numpy())
    labels = torch.from_numpy(grades >= data.source.relevant_from).float()
    vectors = torch.from_numpy(documents.take(ranked.numpy().ravel())).float()  # [J * K, D]
    return JudgedPairs(judged, labels, vectors.reshape(*ranked.shape, documents.width))


def _mean_distance(student: Tensor, teacher: Tensor) -> Tensor:
    return vector_distances(student, teacher, "l2").mean()
