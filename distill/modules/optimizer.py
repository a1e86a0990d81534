"""AdamW that updates only the rows of an embedding table that a batch uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

WEIGHT_DECAY = 0.01


class RowAdamW(torch.optim.AdamW):
    """AdamW that updates a parameter with a sparse gradient only in the rows of that gradient.

    A batch uses a few hundred of the tens of thousands of rows of an embedding table, but a dense update reads and writes all rows and
    their two moments: on a CPU that takes longer than the rest of a small student's step. The moments of an unused row do not change, as
    in `torch.optim.SparseAdam`. Tables get no weight decay. The optimizer state has the format of AdamW.
    """

    @property
    def is_fused(self) -> bool:
        """Whether it was made to update all parameters in one operation."""
        return bool(self.defaults["fused"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = self._take_sparse_gradients()  # AdamW refuses them
        super().step()
        for group, parameter, gradient in gradients:
            self._update_rows(group, parameter, gradient.coalesce())
            parameter.grad = gradient
        return loss

    def _take_sparse_gradients(self) -> list[tuple[dict[str, Any], Tensor, Tensor]]:
        """Removes sparse gradients from their parameters; returns them with group and parameter."""
        gradients = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    gradients.append((group, parameter, parameter.grad))
                    parameter.grad = None
        return gradients

    def _update_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        rows, values = gradient.indices()[0], gradient.values()  # [R], [R, D]
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        step = state["step"].item()
        divisor = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, mean / divisor, alpha=-float(group["lr"]) / (1 - beta1**step))


def make_adamw(model: torch.nn.Module, learning_rate: float, fused: bool | None = True) -> RowAdamW:
    """Makes the optimizer of all parameters of a model.

    Args:
        model: its matrices get weight decay; its biases, norms and embedding tables do not.
        learning_rate: learning rate of all parameters.
        fused: as `choose_fused` returns it.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    matrices = [p for p in model.parameters() if p.ndim > 1 and id(p) not in tables]
    others = [p for p in model.parameters() if p.ndim <= 1 or id(p) in tables]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return RowAdamW(groups, lr=learning_rate, fused=fused)


def choose_fused(trainer: Trainer) -> bool | None:
    """Tells whether a training updates all parameters in one operation; None leaves it to PyTorch, which takes some dozens on a GPU."""
    if not trainer.gradient_clip_val:
        return True
    # under fp16 a fused step scales gradients back itself, which is too late for clipping; on a CPU plain steps are as fast
    is_on_gpu = trainer.strategy.root_device.type == "cuda"
    return True if is_on_gpu and trainer.scaler is None else None
