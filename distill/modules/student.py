"""Training a student to write into its teacher's embedding space."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from distill.data.datamodule import RetrievalData
from distill.encoders.encoder import Encoder
from distill.encoders.students import StudentSpec
from distill.encoders.towers import Towers, load_maker, load_towers
from distill.files.ranks import gather_batch
from distill.losses import Loss
from distill.losses.base import default_temperature
from distill.modules.optimizer import make_adamw
from distill.modules.schedule import ScheduledModule
from distill.modules.start import is_checkpoint, read_checkpoint
from distill.records import BadInput, Batch, Encoded
from distill.teachers.ensemble import EnsembleSettings, EnsembleTeacher
from distill.teachers.teacher import score_candidates

STORE, ENSEMBLE = "store", "ensemble"
Documents = Literal["inherited", "shared", "separate", "teacher"]


class StudentModule(ScheduledModule):
    """A small query encoder, in front of the teacher's own, frozen document vectors or of a document tower that learns with it.

    Args:
        student: how the student is made, e.g. StudentFromTeacher with the layers to keep.
        losses: the terms of the objective by name; their weighted sum is minimised.
        documents: inherited takes the teacher's stored vectors, so that its index stays; shared embeds documents with the student's
            own weights, separate with a second student of the same kind, teacher with a copy of the teacher's tower that is trained.
        ensemble: several teachers of data.teachers as one, for losses that score.
        start_from: weights to begin from, of the same kind of student: its folder, or a checkpoint of another run.
        learning_rate: peak of AdamW's learning rate, after warm-up, before linear decay to 0.
        warmup: share of all steps in which the learning rate rises.
    """

    def __init__(
        self,
        student: StudentSpec,
        losses: dict[str, Loss],
        documents: Documents = "inherited",
        ensemble: EnsembleSettings | None = None,
        start_from: str | None = None,
        learning_rate: float = 1e-3,
        warmup: float = 0.05,
    ):
        super().__init__(learning_rate, warmup)
        if not losses:
            raise BadInput("model.losses: name at least one loss, e.g. query_matching: QueryMatching")
        for name, loss in losses.items():
            if loss.needs_document_tower and documents == "inherited":
                raise BadInput(f"model.losses.{name}: this student inherits the teacher's documents, matching them is 0: remove it")
        self.spec, self.kind, self.start_from = student, documents, start_from
        self.losses = losses
        self.mixture = EnsembleTeacher(ensemble) if ensemble else None
        self.own_documents: Encoder | None = None

    def setup(self, stage: str) -> None:
        self.prepare(self.trainer.datamodule)  # type: ignore[attr-defined]
        # ranks are wrapped before the optimizer is made and must know by then which gradients are sparse
        for tower in self.towers():
            tower.word_table.sparse = self._sparse_rows()
            tower.prepare_for(self.trainer.strategy.root_device)

    def prepare(self, data: RetrievalData, begins: bool = True) -> None:
        """Meets the data: refuses losses it cannot feed, takes its teachers, builds the student for their space.

        A run that `begins` takes the weights of `start_from`; one that goes on has a checkpoint's.
        """
        if hasattr(self, "encoder"):
            return
        if taken := {STORE, ENSEMBLE} & set(data.teachers):
            raise BadInput(f"data.teachers: {min(taken)}: this name has a meaning of its own: choose another")
        self.teachers = {STORE: data.teacher, **data.teachers}
        for name, loss in self.losses.items():
            kind = type(loss).__name__
            if data.candidates < loss.min_candidates:
                given, least = data.candidates, loss.min_candidates
                raise BadInput(f"model.losses.{name}: {kind} scores documents, but data.candidates is {given}: set {least} or more")
            if loss.needs_labels and not data.labelled:
                raise BadInput(f"model.losses.{name}: {kind} needs a judged document for every training query: not all have one")
        self._check_ensemble(data)
        if self.kind != "inherited" and not data.candidates:
            raise BadInput(f"model.documents: {self.kind} learns from documents, but data.candidates is 0: set 1 or more")
        if self.kind in ("separate", "teacher") and not any(loss.min_candidates or loss.takes_candidates for loss in self.losses.values()):
            raise BadInput(f"model.documents: {self.kind}: none of the losses reads documents, its tower would learn nothing: add one")
        self.encoder = self.spec.make_student(data.teacher_space)
        if self.kind == "separate":
            self.own_documents = copy.deepcopy(self.encoder)
        elif self.kind == "teacher":
            self.own_documents = load_maker(data.teacher_space.maker).document
        self._check_teachers()
        if begins and self.start_from:
            self._take_weights(self.start_from)
        # labels and other teachers lead away from the one that made the store
        follows_store = all(loss.teacher in (None, STORE) and not loss.needs_labels for loss in self.losses.values())
        self.best_by = "overlap@10" if follows_store or not data.dev_qrels else "ndcg@10"

    @property
    def document_tower(self) -> Encoder | None:
        """Who embeds documents; nobody where they are inherited."""
        return self.encoder if self.kind == "shared" else self.own_documents

    def towers(self) -> list[Encoder]:
        """All that learns of the student, each once."""
        return [self.encoder, *([self.own_documents] if self.own_documents is not None else [])]

    def forward(self, batch: Batch) -> Tensor:
        """Query vectors [B, D]."""
        return self.encoder(batch.queries)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        teachers = {name: teacher(batch) for name, teacher in self.teachers.items()}
        student = self.student(batch, teachers[STORE])
        with torch.autocast(self.device.type, enabled=False):  # losses take products too
            of_mixture = student.scores.new_zeros(())
            if self.mixture:
                mixed = self.mixture(teachers)
                of_mixture = self.mixture.loss(mixed)
                teachers[ENSEMBLE] = replace(mixed, scores=mixed.scores.detach())  # a teacher does not follow its student
            student, teachers = gather_batch(student), {name: gather_batch(encoded) for name, encoded in teachers.items()}
            terms = self.terms(student, teachers)
            loss = torch.stack([of_mixture, *(self.losses[name].weight * value for name, value in terms.items())]).sum()
        self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()})
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.last_step = student, teachers, terms  # for callbacks, until the backward pass
        return loss

    def on_after_backward(self) -> None:
        del self.last_step

    def student(self, batch: Batch, store: Encoded) -> Encoded:
        """What the student says; its documents are those of `store` where it inherits them."""
        documents = store.document
        if batch.documents is not None and self.document_tower is not None:
            documents = batch.documents.each(self.document_tower).float().unflatten(0, tuple(batch.document_rows.shape))
        relevant = None if batch.relevant_rows is None else batch.relevant_rows.to(documents.device)
        return score_candidates(self(batch).float(), documents, store.document_rows, relevant)

    def terms(self, student: Encoded, teachers: dict[str, Encoded]) -> dict[str, Tensor]:
        """Each loss by name, before its weight."""
        return {name: loss(student, teachers[loss.teacher or STORE]) for name, loss in self.losses.items()}

    def validation_step(self, batch: Batch, _: int) -> Tensor:
        return self(batch).float()  # the retrieval evaluation searches with them

    def make_optimizer(self) -> torch.optim.Optimizer:
        learning = nn.ModuleList([*self.towers(), *([self.mixture] if self.mixture else [])])
        return make_adamw(learning, self.learning_rate, bool(self.trainer.gradient_clip_val))

    def save(self, folder: Path) -> None:
        """One encoder's folder, or where documents have their own tower, a Router of two."""
        if self.own_documents is None:
            return self.encoder.cpu().save_pretrained(folder)
        Towers(self.encoder.cpu(), self.own_documents.cpu()).save_pretrained(folder)

    def _check_ensemble(self, data: RetrievalData) -> None:
        if self.mixture is None:
            return
        ensemble = self.mixture.ensemble
        if unknown := set(ensemble.temperatures) - set(self.teachers):
            raise BadInput(f"model.ensemble.temperatures: {', '.join(sorted(unknown))}: there are {', '.join(self.teachers)}")
        if data.candidates < 2 or (ensemble.weights == "learned" and not data.labelled):
            raise BadInput("model.ensemble: needs data.candidates of 2 or more, and for learned weights a judged one for every query")

    def _check_teachers(self) -> None:
        """Refuses a loss that its teacher cannot feed; suits the others to its scores and to the student's, which become the store's."""
        cosines = self.teachers[STORE].cosines
        widths = {name: teacher.width for name, teacher in self.teachers.items()} | ({ENSEMBLE: 0} if self.mixture else {})
        for name, loss in self.losses.items():
            place, teacher = f"model.losses.{name}", loss.teacher or STORE
            if teacher not in widths:
                raise BadInput(f"{place}.teacher: no teacher {teacher!r}: there are {', '.join(widths)}")
            if loss.needs_vectors and widths[teacher] != self.encoder.width:
                theirs = f"vectors {widths[teacher]} wide, the student {self.encoder.width}" if widths[teacher] else "scores, no vectors"
                raise BadInput(f"{place}: {teacher} has {theirs}: match another teacher")
            reads_pairs = teacher == ENSEMBLE or self.teachers[teacher].reads_pairs
            if reads_pairs and loss.needs_queries_apart:
                raise BadInput(f"{place}: a cross encoder has no vector of a query alone: name a dual encoder as teacher")
            of_cosines = teacher != ENSEMBLE and self.teachers[teacher].cosines
            alike = not reads_pairs and of_cosines == cosines
            self.losses[name] = loss.with_default_temperature(
                default_temperature(cosines), None if alike else default_temperature(of_cosines)
            )

    def _take_weights(self, name: str) -> None:
        """Those of the towers; an ensemble begins anew."""
        try:
            if is_checkpoint(name):
                mixture = {key: tensor for key, tensor in self.state_dict().items() if key.startswith("mixture.")}
                towers = {key: t for key, t in read_checkpoint(name)["state_dict"].items() if not key.startswith("mixture.")}
                self.load_state_dict(towers | mixture)
                return
            found = load_towers(name)
            if not found.shared and self.own_documents is None:
                raise BadInput(f"model.start_from: {name}: has a document tower of its own: set documents: separate or teacher")
            for tower, theirs in zip(self.towers(), (found.query, found.document), strict=False):
                tower.load_state_dict(theirs.state_dict())
        except RuntimeError:
            raise BadInput(f"model.start_from: {name}: its weights are of another kind of student than model says") from None

    def _sparse_rows(self) -> bool:
        # a GPU updates a whole table in no time, and clipping has no sparse form
        return self.trainer.strategy.root_device.type == "cpu" and not self.trainer.gradient_clip_val
