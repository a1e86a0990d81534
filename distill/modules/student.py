"""Trains a student to embed queries in its teacher's embedding space."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from distill.data.datamodule import RetrievalData
from distill.data.targets import read_targets
from distill.encoders.encoder import Encoder
from distill.encoders.students import ReadTargets, StudentFromTeacher, StudentSpec
from distill.encoders.towers import Towers, load_maker, load_towers
from distill.encoders.vocabulary import vocabulary_fingerprint
from distill.files.ranks import gather_batch
from distill.losses import Loss, LossInputs, QueryMatching
from distill.losses.base import default_temperature
from distill.modules.batch_defaults import LEARNING_RATE, refuse_unequal_batches, settle_batch
from distill.modules.loss_terms import compute_loss, register_losses
from distill.modules.optimizer import choose_fused, make_adamw
from distill.modules.schedule import ScheduledModule
from distill.modules.start import VOCABULARY, is_checkpoint, load_weights, read_checkpoint, refuse_other_tokens, rename_old_weights
from distill.records import BadInput, Batch, Encoded, send
from distill.teachers.ensemble import EnsembleSettings, EnsembleTeacher
from distill.teachers.teacher import Teacher, score_candidates

STORE, ENSEMBLE = "store", "ensemble"  # names, in losses, of the teacher of data.store and of the ensemble of teachers
Documents = Literal["inherited", "shared", "separate", "teacher"]
TOWER_PREFIXES = ("encoder.", "own_documents.")  # in a checkpoint, the names of the weights of the student's towers begin with these


@dataclass(frozen=True)
class TrainingStep:
    """The results of a training step over the batch of all ranks; callbacks can read them until the end of the backward pass."""

    student: Encoded
    teachers: dict[str, Encoded]
    losses: dict[str, Tensor]  # not multiplied by their weights


class StudentModule(ScheduledModule):
    """A small query encoder that searches the teacher's frozen document vectors, or is trained together with a document tower.

    Args:
        student: makes the student; by default StudentFromTeacher(), which keeps two of the teacher's layers.
        losses: the terms of the objective by name; their weighted sum is minimised. By default QueryMatching alone.
        documents: inherited uses the teacher's stored vectors, so that the teacher's index can be searched; shared embeds documents with
            the student's own weights, separate with a second student of the same kind, teacher with a trained copy of the teacher's tower.
        ensemble: averages several teachers of data.teachers into one, for losses that compare scores.
        start_from: weights to begin from: a run folder, the folder of a student or a checkpoint, of a student of the same kind.
        student_prompt: what the student reads before each query: `teacher` for the teacher's prompt, `none`, or a text. By default what the
            model that it is made from reads, but no instruction of more than five tokens, which would cost time with every query.
        learning_rate: peak of AdamW's learning rate, after warm-up, before linear decay to 0; by default 1e-3, or more on a GPU.
        warmup: share of all steps in which the learning rate rises.
    """

    def __init__(
        self,
        student: StudentSpec | None = None,
        losses: dict[str, Loss] | None = None,
        documents: Documents = "inherited",
        ensemble: EnsembleSettings | None = None,
        start_from: str | None = None,
        student_prompt: str | None = None,
        learning_rate: float | None = None,
        warmup: float = 0.05,
    ):
        super().__init__(LEARNING_RATE if learning_rate is None else learning_rate, warmup)
        student = student or StudentFromTeacher()
        losses = {"query_matching": QueryMatching()} if losses is None else losses
        self._record_defaults(student=student, losses=losses)
        self.spec, self.documents, self.start_from, self.student_prompt = student, documents, start_from, student_prompt
        self.losses: dict[str, Loss] = register_losses(losses)  # type: ignore[assignment]
        self.ensemble = EnsembleTeacher(ensemble) if ensemble else None
        self.own_documents: Encoder | None = None
        self.has_numbers = False  # whether batch size and learning rate are those that it is trained with, see `settle_batch`
        self.dropped_prompt = ""  # of the model that the student is made from, where it does not read it though nobody asked for that
        self.kept_vocabulary = ""  # what share of the tokens a student of fewer tokens has kept, in words
        self.register_load_state_dict_pre_hook(rename_old_weights)

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is None:
            raise BadInput("StudentModule: learns from RetrievalData: call Trainer.fit(student, RetrievalData(...))")
        self.prepare(data)
        settle_batch(self, data, self.trainer)
        refuse_unequal_batches(data.batch_size, self.trainer.strategy.root_device)
        # DistributedDataParallel wraps the module before the optimizer is made, and must know then which gradients are sparse
        for tower in self.towers:
            tower.word_table.sparse = self._has_sparse_tables()
            tower.prepare_for(self.trainer.strategy.root_device)

    def prepare(self, data: RetrievalData, load_start: bool = True) -> None:
        """Takes the teachers of the data, checks the losses against them, builds the student, and connects it to the data.

        Args:
            data: the data, after `data.setup`.
            load_start: whether to load the weights of `start_from`; a continued run loads those of its checkpoint instead.
        """
        self.teachers = self._name_teachers(data)
        self._check_ensemble(data)
        self._check_losses(data)
        self._check_documents(data)
        self._set_default_temperatures()
        self.best_by = self._choose_metric(data)
        if not self.has_towers:
            is_start = load_start and self.start_from is None  # others are loaded over it
            self._build_towers(data, partial(read_targets, data) if is_start else None)
            if load_start and self.start_from:
                self._load_start_weights(self.start_from)
        data.connect(self.encoder, self.document_tower)

    @property
    def has_towers(self) -> bool:
        """Whether the student has been built, which happens when it first meets its data."""
        return hasattr(self, "encoder")

    @property
    def document_tower(self) -> Encoder | None:
        """The encoder that embeds documents; None if document vectors are inherited."""
        return self.encoder if self.documents == "shared" else self.own_documents

    @property
    def towers(self) -> list[Encoder]:
        """The encoders that are trained."""
        return [self.encoder] if self.own_documents is None else [self.encoder, self.own_documents]

    def forward(self, batch: Batch) -> Tensor:
        """Returns the query vectors [B, D]."""
        return self.encoder(batch.queries)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        teachers = {name: teacher(batch) for name, teacher in self.teachers.items()}
        student = self.encode_batch(batch, teachers[STORE])
        with torch.autocast(self.device.type, enabled=False):  # losses multiply vectors too, and need exact products
            ensemble_loss = student.scores.new_zeros(())
            if self.ensemble is not None:
                combined = self.ensemble.combine(teachers)
                ensemble_loss = self.ensemble.loss(combined)
                # detached: the losses of the student must not train the weights of the ensemble
                teachers[ENSEMBLE] = replace(combined, scores=combined.scores.detach())
            teachers = {name: gather_batch(encoded) for name, encoded in teachers.items()}
            step = self.compute_losses(gather_batch(student), teachers)
            terms = [self.losses[name].weight * value for name, value in step.losses.items()]
            loss = torch.stack([ensemble_loss, *terms]).sum()
        self.log_losses(loss, step.losses)
        self.last_step = step
        return loss

    def on_after_backward(self) -> None:
        del self.last_step

    def encode_batch(self, batch: Batch, store: Encoded) -> Encoded:
        """Embeds and scores a batch. Inherited document vectors are those of `store`, the output of the store's teacher."""
        documents = store.document
        if batch.documents is not None and self.document_tower is not None:
            shape = tuple(batch.document_rows.shape)  # [B, K]
            documents = batch.documents.map(self.document_tower).float().unflatten(0, shape)  # [B, K, D]
        relevant = None if batch.relevant_rows is None else send(batch.relevant_rows, documents.device)
        return score_candidates(self(batch).float(), documents, store.document_rows, relevant)

    def compute_losses(self, student: Encoded, teachers: dict[str, Encoded]) -> TrainingStep:
        """Computes each loss from the student's output and that of the teacher that the loss names."""
        losses = {name: compute_loss(name, loss, student, teachers[loss.teacher or STORE]) for name, loss in self.losses.items()}
        return TrainingStep(student, teachers, losses)

    def validation_step(self, batch: Batch, _: int) -> Tensor:
        return self(batch).float()  # RetrievalEval searches with these vectors

    def make_optimizer(self) -> torch.optim.Optimizer:
        # the order must not change: a checkpoint stores the optimizer's state by the position of each weight
        ensemble = [] if self.ensemble is None else [self.ensemble]
        trained = nn.ModuleList([*self.towers, *ensemble, self.losses])  # type: ignore[list-item]
        return make_adamw(trained, self.learning_rate, choose_fused(self.trainer))

    def save(self, folder: Path) -> None:
        """Writes the folder of the encoder, or of a Router with two encoders if documents have their own tower."""
        if self.own_documents is None:
            self.encoder.cpu().save_pretrained(folder)
        else:
            Towers(self.encoder.cpu(), self.own_documents.cpu()).save_pretrained(folder)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[VOCABULARY] = self.token_fingerprint

    def _name_teachers(self, data: RetrievalData) -> dict[str, Teacher]:
        """Returns all teachers that losses can learn from, by name, except the ensemble."""
        reserved = sorted({STORE, ENSEMBLE} & set(data.teachers))
        if reserved:
            raise BadInput(f"data.teachers: {reserved[0]}: this name has a meaning of its own: choose another")
        return {STORE: data.teacher, **data.teachers}

    @property
    def _teachers_and_ensemble(self) -> dict[str, Teacher]:
        return self.teachers if self.ensemble is None else {**self.teachers, ENSEMBLE: self.ensemble}

    def _check_ensemble(self, data: RetrievalData) -> None:
        if self.ensemble is None:
            return
        settings = self.ensemble.settings
        unknown = sorted(set(settings.temperatures) - set(self.teachers))
        if unknown:
            raise BadInput(f"model.ensemble.temperatures: {', '.join(unknown)}: there are {', '.join(self.teachers)}")
        if data.candidates < 2 or (settings.weights == "learned" and not data.labelled):
            raise BadInput("model.ensemble: needs data.candidates of 2 or more, and for learned weights a judged one for every query")

    def _check_losses(self, data: RetrievalData) -> None:
        teachers, labelled = self._teachers_and_ensemble, data.labelled
        for name, loss in self.losses.items():
            teacher_name = loss.teacher or STORE
            if teacher_name not in teachers:
                raise BadInput(f"model.losses.{name}.teacher: no teacher {teacher_name!r}: there are {', '.join(teachers)}")
            teacher = teachers[teacher_name]
            inputs = LossInputs(
                student_width=data.teacher_space.width,
                inherits_documents=self.documents == "inherited",
                teacher=teacher_name,
                teacher_width=teacher.width,
                teacher_reads_pairs=teacher.reads_pairs,
                candidates=data.candidates,
                labelled=labelled,
            )
            try:
                loss.check(inputs)
            except BadInput as error:
                raise BadInput(f"model.losses.{name}: {error}") from None

    def _check_documents(self, data: RetrievalData) -> None:
        if self.documents != "inherited" and data.dev_collections:
            reason = f"is for students that inherit the teacher's documents, not for model.documents: {self.documents}"
            raise BadInput(f"data.dev_suite: {reason}")
        if self.documents != "inherited" and not data.candidates:
            raise BadInput(f"model.documents: {self.documents} learns from documents, but data.candidates is 0: set 1 or more")
        if self.documents in ("separate", "teacher") and not any(loss.reads_documents for loss in self.losses.values()):
            reason = "none of the losses reads documents, its tower would learn nothing: add one"
            raise BadInput(f"model.documents: {self.documents}: {reason}")

    def _set_default_temperatures(self) -> None:
        """Gives every loss its default temperatures.

        The student learns to score like the teacher of the store. The teacher of a loss needs a temperature of its own if it is a cross
        encoder or if its scores are of another size.
        """
        teachers, store = self._teachers_and_ensemble, self.teachers[STORE]
        for loss in self.losses.values():
            teacher = teachers[loss.teacher or STORE]
            scores_alike = not teacher.reads_pairs and teacher.has_cosine_scores == store.has_cosine_scores
            teacher_temperature = None if scores_alike else default_temperature(teacher.has_cosine_scores)
            loss.set_default_temperatures(default_temperature(store.has_cosine_scores), teacher_temperature)

    def _record_defaults(self, **values: Any) -> None:
        """Puts values in the place of arguments that were None, so that the configuration of a run names the defaults too."""
        arguments = getattr(self, "init_args", {})
        for name, value in values.items():
            if name in arguments and arguments[name] is None:
                arguments[name] = value

    def _build_towers(self, data: RetrievalData, read_targets: ReadTargets | None) -> None:
        space = data.teacher_space
        self.encoder = self.spec.make_student(space, self.student_prompt, data.count_tokens, read_targets)
        self.dropped_prompt, self.kept_vocabulary = self.spec.dropped_prompt, self.spec.kept_vocabulary
        self.token_fingerprint = vocabulary_fingerprint(self.encoder)
        if self.documents == "separate":
            self.own_documents = copy.deepcopy(self.encoder)
        elif self.documents == "teacher":
            self.own_documents = load_maker(space.maker).document.float()

    def _load_start_weights(self, name: str) -> None:
        """Loads the weights of the towers; the weights of the ensemble and of the losses keep their initial values."""
        origin, fix = f"model.start_from: {name}", "name a student of the same kind as model says"
        if is_checkpoint(name):
            refuse_other_tokens(name, self.encoder)
            weights = read_checkpoint(name)["state_dict"]
            towers = {key: tensor for key, tensor in weights.items() if key.startswith(TOWER_PREFIXES)}
            others = {key: tensor for key, tensor in self.state_dict().items() if not key.startswith(TOWER_PREFIXES)}
            load_weights(self, others | towers, origin, fix)
            return
        start = load_towers(name)
        if not start.shared and self.own_documents is None:
            raise BadInput(f"{origin}: has a document tower of its own: set documents: separate or teacher")
        for tower, start_tower in zip(self.towers, (start.query, start.document), strict=False):
            refuse_other_tokens(name, tower, start_tower)
            load_weights(tower, start_tower.state_dict(), origin, fix)

    def _choose_metric(self, data: RetrievalData) -> str:
        """Returns the name of the dev metric by which the best epoch is chosen."""
        # a student that learns from labels or other teachers may become better than the store's teacher, which overlap would punish
        follows_store = all(loss.teacher in (None, STORE) and not loss.learns_from_labels for loss in self.losses.values())
        if follows_store or not data.dev_qrels:
            return "mean_overlap@10" if data.dev_collections else "overlap@10"
        return "mean_retention_ndcg@10" if data.dev_collections else "ndcg@10"

    def _has_sparse_tables(self) -> bool:
        # on a GPU a dense update is fast, and PyTorch cannot clip sparse gradients
        return self.trainer.strategy.root_device.type == "cpu" and not self.trainer.gradient_clip_val
