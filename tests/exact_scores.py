"""A loss that looks at the numbers it is given: in a file of its own, so that a configuration can name it."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.losses import Loss
from distill.records import Encoded


class WantsExactScores(Loss):
    """Refuses scores, given or computed by a loss, that were rounded to bf16."""

    def forward(self, student: Encoded, teacher: Encoded) -> Tensor:
        for side in (student, teacher):
            self.compare(side.scores, torch.einsum("bd,bkd->bk", side.query.double(), side.document.double()))
        found = student.query @ teacher.query.T
        self.compare(found, student.query.double() @ teacher.query.double().T)
        return (1 - found.diagonal()).mean()

    def compare(self, found: Tensor, exact: Tensor) -> None:
        torch.testing.assert_close(found, exact.float(), atol=1e-6, rtol=1e-5)
