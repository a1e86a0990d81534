"""From token states to one vector per text."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Pooling = Literal["cls", "mean"]


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per text: `states` [B, L, D], `mask` [B, L] with 1 on real tokens -> [B, D]."""
    return states[:, 0] if pooling == "cls" else mean_pool(states, mask)


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens; padding does not vote."""
    weights = mask.unsqueeze(-1).to(states.dtype)  # [B, L, 1]
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
