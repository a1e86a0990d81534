"""Training a student to write into its teacher's embedding space."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from distill.data.datamodule import RetrievalData
from distill.distributed import gather
from distill.encoders.dual import dual
from distill.encoders.students import StudentSpec
from distill.losses import Loss
from distill.modules.optimizer import make_optimizer
from distill.records import BadInput, Batch, Encoded


class StudentModule(LightningModule):
    """An asymmetric student: a small query encoder in front of the teacher's own, frozen document vectors.

    Args:
        student: how the student is made, e.g. StudentFromTeacher with the layers to keep.
        losses: the terms of the objective by name; their weighted sum is minimised.
        learning_rate: peak of AdamW's learning rate, after warm-up, before linear decay to 0.
        warmup: share of all steps in which the learning rate rises.
    """

    def __init__(self, student: StudentSpec, losses: dict[str, Loss], learning_rate: float = 1e-3, warmup: float = 0.05):
        super().__init__()
        if not losses:
            raise BadInput("model.losses: name at least one loss, e.g. query_matching: QueryMatching")
        if learning_rate <= 0 or not 0 <= warmup < 1:
            raise BadInput(f"model: learning_rate {learning_rate} must be above 0, warmup {warmup} a share of the steps, 0 to below 1")
        for name, loss in losses.items():
            if loss.needs_document_tower:
                raise BadInput(f"model.losses.{name}: this student inherits the teacher's documents, matching them is 0: remove it")
        self.spec = student
        self.losses = losses
        self.learning_rate = learning_rate
        self.warmup = warmup

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

    def on_train_start(self) -> None:
        """The learning rate and its schedule as configured now win over those a checkpoint brings."""
        scheduler: Any = self.lr_schedulers()
        groups, schedule = scheduler.optimizer.param_groups, self._schedule()
        scheduler.base_lrs, scheduler.lr_lambdas = [self.learning_rate] * len(groups), [schedule] * len(groups)
        for group in groups:
            group["initial_lr"], group["lr"] = self.learning_rate, self.learning_rate * schedule(scheduler.last_epoch)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.encoder, self.learning_rate, self._sparse_rows(), bool(self.trainer.gradient_clip_val))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _sparse_rows(self) -> bool:
        # a GPU updates a whole table in no time, and clipping has no sparse form
        return self.trainer.strategy.root_device.type == "cpu" and not self.trainer.gradient_clip_val

    def _schedule(self) -> WarmupThenDecay:
        total = int(self.trainer.estimated_stepping_batches)
        return WarmupThenDecay(int(self.warmup * total), total)


class WarmupThenDecay:
    """Factor of the learning rate at a step: linear from 0 to 1, then linear to 0 at the last step."""

    def __init__(self, warmup_steps: int, total_steps: int):
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps))
