"""Training a student to write into its teacher's embedding space."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.data.datamodule import RetrievalData
from distill.distributed import gather
from distill.encoders.dual import dual
from distill.encoders.students import StudentSpec
from distill.losses import Loss
from distill.modules.optimizer import make_optimizer
from distill.modules.scheduled import ScheduledModule
from distill.records import BadInput, Batch, Encoded


class StudentModule(ScheduledModule):
    """An asymmetric student: a small query encoder in front of the teacher's own, frozen document vectors.

    Args:
        student: how the student is made, e.g. StudentFromTeacher with the layers to keep.
        losses: the terms of the objective by name; their weighted sum is minimised.
        learning_rate: peak of AdamW's learning rate, after warm-up, before linear decay to 0.
        warmup: share of all steps in which the learning rate rises.
    """

    def __init__(self, student: StudentSpec, losses: dict[str, Loss], learning_rate: float = 1e-3, warmup: float = 0.05):
        super().__init__(learning_rate, warmup)
        if not losses:
            raise BadInput("model.losses: name at least one loss, e.g. query_matching: QueryMatching")
        for name, loss in losses.items():
            if loss.needs_document_tower:
                raise BadInput(f"model.losses.{name}: this student inherits the teacher's documents, matching them is 0: remove it")
        self.spec = student
        self.losses = losses

    def setup(self, stage: str) -> None:
        self.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]
        # ranks are wrapped before the optimizer is made and must know by then which gradients are sparse
        self.encoder.word_table.sparse = self._sparse_rows()
        self.encoder.prepare_for(self.trainer.strategy.root_device)

    def prepare(self, data: RetrievalData) -> None:
        """Meets the data: refuses losses it cannot feed, takes its teacher, builds the student for that teacher's space."""
        if hasattr(self, "encoder"):
            return
        for name, loss in self.losses.items():
            kind = type(loss).__name__
            if data.candidates < loss.min_candidates:
                given, least = data.candidates, loss.min_candidates
                raise BadInput(f"model.losses.{name}: {kind} scores documents, but data.candidates is {given}: set {least} or more")
            if loss.needs_labels and not data.labelled:
                raise BadInput(f"model.losses.{name}: {kind} needs a judged document for every training query: not all have one")
        self.teacher = data.teacher
        self.encoder = self.spec.build(data.teacher_space)

    def forward(self, batch: Batch) -> Tensor:
        """Query vectors [B, D]."""
        return self.encoder(batch.queries)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        teacher = self.teacher(batch)
        student = dual(self(batch).float(), teacher.document, teacher.document_rows)  # documents are inherited
        with torch.autocast(self.device.type, enabled=False):  # losses take products too
            terms = self.terms(gather(student), gather(teacher))
            loss = torch.stack([self.losses[name].weight * value for name, value in terms.items()]).sum()
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def terms(self, student: Encoded, teacher: Encoded) -> dict[str, Tensor]:
        """Each loss by name, before its weight."""
        return {name: loss(student, teacher) for name, loss in self.losses.items()}

    def validation_step(self, batch: Batch, _: int) -> Tensor:
        return self(batch).float()  # the retrieval evaluation searches with them

    def make_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.encoder, self.learning_rate, self._sparse_rows(), bool(self.trainer.gradient_clip_val))

    def _sparse_rows(self) -> bool:
        # a GPU updates a whole table in no time, and clipping has no sparse form
        return self.trainer.strategy.root_device.type == "cpu" and not self.trainer.gradient_clip_val
