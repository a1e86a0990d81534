"""Faults to plant in a training: in a file of its own, so that a configuration can name them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.encoders.encoder import Encoder
from distill.encoders.modules import Normalize
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.files.ranks import rank
from distill.losses import Loss
from distill.records import Encoded


@dataclass
class ToOnePoint(Loss):
    """Pulls every query to the same place."""

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        return (student.query - torch.eye(1, student.query.shape[1])).norm(dim=1).mean()


@dataclass
class Detached(Loss):
    """A value that depends on no weight."""

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        return (student.query.detach() - teacher.query).norm(dim=1).mean()


@dataclass
class Flat(Loss):
    """A value whose slope is 0 everywhere."""

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        return (0 * student.query).sum() + 1


@dataclass
class BreaksAt(Loss):
    """No number from one call on, on one rank."""

    call: int = 3
    on_rank: int = 0
    calls: int = 0

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        self.calls += 1
        return student.query[:, 0].mean() * (float("nan") if self.calls >= self.call and rank() == self.on_rank else 1.0)


@dataclass
class NoSlopeAt(Loss):
    """A number at every call, whose gradient at one of them is none."""

    call: int = 6
    calls: int = 0

    def __call__(self, student: Encoded, teacher: Encoded) -> Tensor:
        self.calls += 1
        value = student.query[:, 0].mean()
        return value + (0 * value).sqrt() if self.calls == self.call else value  # infinity times 0


class Unnormalised(StudentFromTeacher):
    """A student that leaves its vectors as long as they come."""

    def build(self, teacher: TeacherSpace) -> Encoder:
        encoder = super().build(teacher)
        modules = [module for module in encoder.module_list if not isinstance(module, Normalize)]
        return Encoder(modules, encoder.tokenizer, encoder.settings)
