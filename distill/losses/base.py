"""`Loss`, the base of all losses: a module with a weight, a value of two `Encoded`, and a check of what a training gives it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from distill.files.configs import Configurable
from distill.records import BadInput, Encoded

COSINE_TEMPERATURE, LOGIT_TEMPERATURE = 0.05, 1.0


T = TypeVar("T", float, float | None)


def check_temperature(value: T, name: str = "temperature") -> T:
    """Returns a temperature as it is; refuses one that no score can be divided by, or that would turn the order of scores around."""
    if value is not None and not 0 < value < math.inf:
        raise BadInput(f"{name}: {value}: scores are divided by it: set a number above 0")
    return value


class Loss(Configurable, nn.Module):
    """A term of the training objective. It owns no student, no projection and no gathering over ranks.

    A subclass computes its value in `forward`. Parameters that it owns are trained with the student and saved in its checkpoints.
    On several ranks every rank computes the same value over the batch of all of them.

    Args:
        weight: factor of this term in the sum that is minimised.
        teacher: name in data.teachers of the teacher it learns from, or ensemble; by default the teacher that made data.store.

    Example:
        >>> class SquaredScoreError(Loss):
        ...     def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        ...         return (student.scores - teacher.scores).square().mean()
        ...     def check(self, inputs: LossInputs) -> None:
        ...         inputs.require_candidates(self, at_least=1)
    """

    reads_documents: ClassVar[bool] = True  # whether a document tower of the student can learn from it
    learns_from_labels: ClassVar[bool] = False  # whether its target is what is judged relevant, and not what the teacher computes

    def __init__(self, weight: float = 1.0, teacher: str | None = None):
        super().__init__()
        self.weight = weight
        self.teacher = teacher

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        """Returns a scalar: the mean over the queries of the batch, before `weight`."""
        raise NotImplementedError

    def check(self, inputs: LossInputs) -> None:
        """Raises BadInput where a training lacks what this loss needs; the student puts `model.losses.NAME:` before the message."""

    def set_default_temperatures(self, student: float, teacher: float | None = None) -> None:
        """Sets the temperatures that are used where the user gave none; a loss that divides scores by one overrides it.

        Args:
            student: for the student's scores.
            teacher: for the teacher's scores; None where both are cosines or both logits, and share the student's temperature.
        """


@dataclass(frozen=True)
class LossInputs:
    """What a training gives one loss, known before it begins. The methods raise BadInput, with the fix, where something is missing.

    Args:
        student_width: dimensions of the student's vectors.
        inherits_documents: whether the student's document vectors are the teacher's stored ones.
        teacher: name of the teacher that the loss learns from.
        teacher_width: dimensions of the teacher's vectors; 0 where it has only scores.
        teacher_reads_pairs: whether the teacher's vector of a query depends on the document beside it, as a cross encoder's does.
        candidates: documents beside every query; 0 where queries come alone.
        labelled: whether the first candidate of every query is judged relevant.
    """

    student_width: int
    inherits_documents: bool
    teacher: str
    teacher_width: int
    teacher_reads_pairs: bool
    candidates: int
    labelled: bool

    def require_candidates(self, loss: Loss, at_least: int) -> None:
        if self.candidates < at_least:
            kind, fix = type(loss).__name__, f"set {at_least} or more"
            raise BadInput(f"{kind} scores documents, but data.candidates is {self.candidates}: {fix}")

    def require_labels(self, loss: Loss) -> None:
        if not self.labelled:
            raise BadInput(f"{type(loss).__name__} needs a judged document for every training query: not all have one")

    def require_own_documents(self) -> None:
        if self.inherits_documents:
            raise BadInput("this student inherits the teacher's documents, matching them is 0: remove it")

    def require_vectors(self) -> None:
        """The teacher's vectors have to be in the student's own space."""
        self.require_teacher_vectors()
        if self.teacher_width != self.student_width:
            widths = f"vectors {self.teacher_width} wide, the student {self.student_width}"
            raise BadInput(f"{self.teacher} has {widths}: match another teacher")

    def require_teacher_vectors(self) -> None:
        """The teacher has to have vectors, of any width."""
        if not self.teacher_width:
            raise BadInput(f"{self.teacher} has scores, no vectors: match another teacher")

    def require_queries_alone(self) -> None:
        """The teacher's vector of a query has to be the same beside every document."""
        if self.teacher_reads_pairs:
            raise BadInput("a cross encoder has no vector of a query alone: name a dual encoder as teacher")


def default_temperature(has_cosine_scores: bool) -> float:
    """Returns 0.05 for cosines, and 1 for logits: the scores of cross encoders, and of vectors longer than 1."""
    return COSINE_TEMPERATURE if has_cosine_scores else LOGIT_TEMPERATURE


def batch_scores(encoded: Encoded) -> Tensor:
    """Scores [B, B * K] of every query against every candidate of the batch; query i's own candidates start at column i * K."""
    return encoded.query @ encoded.document.flatten(0, 1).T


def false_negative_mask(encoded: Encoded) -> Tensor:
    """Marks the columns [B, B * K] of `batch_scores` that are no negatives of a query.

    These are the documents judged relevant to it, and copies of its own candidates that other queries brought. The first of its own
    candidates, the answer, is never marked.
    """
    rows = encoded.document_rows  # [B, K]
    batch, candidates = rows.shape
    owner = torch.arange(rows.numel(), device=rows.device) // candidates  # [B * K] the query that each column is a candidate of
    query = torch.arange(batch, device=rows.device)
    mask = membership_mask(rows, rows.flatten()) & (owner[None, :] != query[:, None])
    if encoded.relevant_rows is not None:
        mask |= membership_mask(encoded.relevant_rows, rows.flatten())
    answer = torch.arange(rows.numel(), device=rows.device) == query[:, None] * candidates  # [B, B * K]
    return mask & ~answer


def membership_mask(rows: Tensor, columns: Tensor) -> Tensor:
    """Marks where the document of a column is among a query's rows.

    Args:
        rows: [B, J] documents of each query; rows of -1 are padding.
        columns: [C] a document each.

    Returns:
        [B, C] bool.

    >>> membership_mask(torch.tensor([[4, 7], [9, -1]]), torch.tensor([7, 9, 7])).tolist()
    [[True, False, True], [False, True, False]]
    """
    # torch.unique would do for what follows, but its output has as many rows as there are values, for which the host waits
    ascending, order = columns.sort()  # [C]
    is_new = torch.ones_like(ascending, dtype=torch.bool)
    is_new[1:] = ascending[1:] != ascending[:-1]
    place = is_new.cumsum(0) - 1  # [C] of each column in `ascending`, counted without repetitions
    place_of_column = torch.empty_like(order).scatter_(0, order, place)
    first = torch.searchsorted(ascending, rows.contiguous()).clamp(max=len(ascending) - 1)  # [B, J]
    # a row that no column has is marked in an extra place at the end, which no column reads
    places = torch.where(ascending[first] == rows, place[first], len(columns))
    mask = torch.zeros(len(rows), len(columns) + 1, dtype=torch.bool, device=rows.device)
    return mask.scatter_(1, places, True)[:, place_of_column]
