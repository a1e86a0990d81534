"""Faults to plant in a training: in a file of its own, so that a configuration can name them."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.encoders.encoder import Encoder
from distill.encoders.modules import Normalize
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.files.ranks import rank
from distill.losses import Loss
from distill.records import Encoded


class ToOnePoint(Loss):
    """Pulls every query to the same place."""

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return (student.query - torch.eye(1, student.query.shape[1])).norm(dim=1).mean()


class Detached(Loss):
    """A value that depends on no weight."""

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return (student.query.detach() - teacher.query).norm(dim=1).mean()


class Flat(Loss):
    """A value whose slope is 0 everywhere."""

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return (0 * student.query).sum() + 1


class BreaksAt(Loss):
    """No number from the `call`-th step on, on one rank."""

    def __init__(self, call: int = 3, on_rank: int = 0):
        super().__init__()
        self.call, self.on_rank, self.calls = call, on_rank, 0

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        self.calls += 1
        return student.query[:, 0].mean() * (float("nan") if self.calls >= self.call and rank() == self.on_rank else 1.0)


class NoSlopeAt(Loss):
    """A number at every step, whose gradient at the `call`-th is none."""

    def __init__(self, call: int = 6):
        super().__init__()
        self.call, self.calls = call, 0

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        self.calls += 1
        value = student.query[:, 0].mean()
        return value + (0 * value).sqrt() if self.calls == self.call else value  # infinity times 0


class Unnormalised(StudentFromTeacher):
    """A student that leaves its vectors as long as they come."""

    def build(self, teacher: TeacherSpace) -> Encoder:
        encoder = super().build(teacher)
        modules = [module for module in encoder.module_list if not isinstance(module, Normalize)]
        return Encoder(modules, encoder.tokenizer, encoder.settings)
