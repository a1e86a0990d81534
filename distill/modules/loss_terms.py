"""The losses of a student as parts of its module, and their values, with refusals that name the loss."""

from __future__ import annotations

import re

from torch import Tensor, nn

from distill.losses import Loss
from distill.records import BadInput, Encoded, one_line

OTHER_SHAPES = re.compile(r"shapes? |must match the (existing )?size|broadcast|einsum|expected size")  # in PyTorch's words


def register_losses(losses: dict[str, Loss]) -> nn.ModuleDict:
    """Makes submodules of the losses, so that their parameters are trained and saved; refuses a name that a submodule cannot have."""
    if not losses or not isinstance(losses, dict):
        raise BadInput("model.losses: name at least one loss, e.g. query_matching: QueryMatching")
    modules = nn.ModuleDict()
    for name, loss in losses.items():
        try:
            modules[name] = loss
        except KeyError:
            raise BadInput(f"model.losses.{name}: PyTorch cannot give this name to a module: choose another, without a dot") from None
    return modules


def compute_loss(name: str, loss: Loss, student: Encoded, teacher: Encoded) -> Tensor:
    """Returns the value of a loss, a scalar.

    Raises:
        BadInput: the loss, or a layer that it owns, is for vectors of other shapes.
    """
    try:
        return loss(student, teacher)
    except RuntimeError as error:
        if not OTHER_SHAPES.search(str(error)):
            raise
        shapes = f"the student's query vectors are {list(student.query.shape)}, the teacher's {list(teacher.query.shape)}"
        raise BadInput(f"model.losses.{name}: does not fit the vectors ({one_line(error)}): {shapes}: mend its width") from error
