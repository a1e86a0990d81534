"""A loss outside the package, with a layer of its own: in a file of its own, so that a configuration can name it."""

from __future__ import annotations

from torch import Tensor, nn

from distill.losses import Loss, LossInputs
from distill.records import Encoded


class Readout(Loss):
    """How badly a linear layer reads the teacher's query vectors out of the student's.

    Args:
        width: dimensions of the vectors.
        weight: as in `Loss`.
        teacher: as in `Loss`.
    """

    def __init__(self, width: int, weight: float = 1.0, teacher: str | None = None):
        super().__init__(weight, teacher)
        self.layer = nn.Linear(width, width)

    def check(self, inputs: LossInputs) -> None:
        inputs.require_vectors()

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        return (self.layer(student.query) - teacher.query).square().sum(dim=1).mean()
