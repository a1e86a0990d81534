"""What every loss is: a module with a weight, a function of two `Encoded`, and a check of what a training would feed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from distill.files.configs import Configurable
from distill.records import BadInput, Encoded

COSINE_TEMPERATURE, LOGIT_TEMPERATURE = 0.05, 1.0


class Loss(Configurable, nn.Module):
    """A term of the training objective. It owns no student, no projection and no gathering over ranks.

    A subclass computes its value in `forward`. Parameters that it owns are trained with the student and saved in its checkpoints.
    On several ranks every rank computes the same value over the batch of all of them.

    Args:
        weight: factor of this term in the sum that is minimised.
        teacher: whom it learns from: a name in data.teachers, or ensemble; by default the teacher that made data.store.

    Example:
        >>> class SquaredScoreError(Loss):
        ...     def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        ...         return (student.scores - teacher.scores).square().mean()
        ...     def check(self, inputs: LossInputs) -> None:
        ...         inputs.require_candidates(self, at_least=1)
    """

    reads_documents: ClassVar[bool] = True  # whether a document tower of the student can learn from it
    learns_from_labels: ClassVar[bool] = False  # whether it leads away from the teacher, to what is judged relevant

    def __init__(self, weight: float = 1.0, teacher: str | None = None):
        super().__init__()
        self.weight = weight
        self.teacher = teacher

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        """Returns a scalar: the mean over the queries of the batch, before `weight`."""
        raise NotImplementedError

    def check(self, inputs: LossInputs) -> None:
        """Raises BadInput, with the fix, where a training cannot feed this loss; the student puts `model.losses.NAME:` before it."""

    def set_default_temperatures(self, student: float, teacher: float | None = None) -> None:
        """Tells a loss that divides scores what fits where no temperature was given.

        Args:
            student: fits the student's scores.
            teacher: fits the teacher's scores; None where they are of the student's kind, and share its temperature.
        """


@dataclass(frozen=True)
class LossInputs:
    """What a training will feed one loss, known before it begins. Its methods raise BadInput, with the fix, where that is not enough.

    Args:
        student_width: dimensions of the student's vectors.
        inherits_documents: whether the student's document vectors are the teacher's stored ones.
        teacher: name of the teacher that the loss learns from.
        teacher_width: dimensions of its vectors; 0 where it has scores alone.
        teacher_reads_pairs: whether its vector of a query depends on the document beside it, as a cross encoder's does.
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
        if not self.teacher_width:
            raise BadInput(f"{self.teacher} has scores, no vectors: match another teacher")
        if self.teacher_width != self.student_width:
            widths = f"vectors {self.teacher_width} wide, the student {self.student_width}"
            raise BadInput(f"{self.teacher} has {widths}: match another teacher")

    def require_queries_alone(self) -> None:
        """The teacher's vector of a query has to be the same beside every document."""
        if self.teacher_reads_pairs:
            raise BadInput("a cross encoder has no vector of a query alone: name a dual encoder as teacher")


def default_temperature(has_cosine_scores: bool) -> float:
    """Returns 0.05 for cosines, and 1 for scores as large as logits: those of longer vectors and of cross encoders."""
    return COSINE_TEMPERATURE if has_cosine_scores else LOGIT_TEMPERATURE


def batch_scores(encoded: Encoded) -> Tensor:
    """Scores [B, B * K] of every query against every candidate of the batch; query i's own candidates start at column i * K."""
    return encoded.query @ encoded.document.flatten(0, 1).T


def false_negative_mask(encoded: Encoded) -> Tensor:
    """Marks the columns [B, B * K] of `batch_scores` that are no negatives of a query.

    These are the documents judged relevant to it, and its own candidates where other queries bring them once more. The first of its
    own candidates, the answer, is never marked.
    """
    rows = encoded.document_rows  # [B, K]
    batch, candidates = rows.shape
    owner = torch.arange(rows.numel(), device=rows.device) // candidates  # [B * K] the query that brings the column
    query = torch.arange(batch, device=rows.device)
    mask = membership_mask(rows, rows.flatten()) & (owner[None, :] != query[:, None])
    if encoded.relevant_rows is not None:
        mask |= membership_mask(encoded.relevant_rows, rows.flatten())
    mask[query, query * candidates] = False
    return mask


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
    documents, column = columns.unique(return_inverse=True)  # [U] ascending, [C] place of each column's document among them
    place = torch.searchsorted(documents, rows.contiguous()).clamp(max=len(documents) - 1)  # [B, J]
    # a row that no column has is marked in one place more, which is then left out
    place = torch.where(documents[place] == rows, place, len(documents))
    mask = torch.zeros(len(rows), len(documents) + 1, dtype=torch.bool, device=rows.device)
    return mask.scatter_(1, place, True)[:, column]
