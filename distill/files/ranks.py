"""Ranks: who am I, how many are we, and gathering a batch across us with its gradient. The only file importing torch.distributed."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from distill.records import Encoded


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


def launched_rank() -> int:
    """This process's number among those that torchrun started, for work that needs no process group; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def launched_world_size() -> int:
    """How many processes torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_leader() -> bool:
    """Whether this process does what has to be done once, also before the ranks have met."""
    return getattr(rank_zero_only, "rank", 0) == 0


def max_over_ranks(value: int, device: torch.device) -> int:
    """The highest `value` of any rank; every rank must ask."""
    if world_size() == 1:
        return value
    values = torch.tensor([value], device=device)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return int(values)


class _Gather(torch.autograd.Function):
    """Every rank's rows, in rank order; all ranks must bring equally many."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        if rows.numel():  # K = 0 candidates: nothing to send, and not every backend sends nothing
            dist.all_gather(parts, rows.contiguous())
        context.own = slice(rank() * len(rows), (rank() + 1) * len(rows))
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        # Every rank computes the same loss over the whole batch but walks back into its own rows only. Averaging over ranks
        # then divides by their number; this factor takes that back, and the sum over ranks is the gradient of one process.
        return gradient[context.own] * world_size()


def gather_rows(rows: Tensor) -> Tensor:
    """Every rank's rows [n, ...], in rank order, however many each brings; without gradient."""
    if world_size() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    padded = rows.new_zeros((max(map(int, counts)), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def gather_batch(encoded: Encoded) -> Encoded:
    """The batch of all ranks as one, differentiable in every rank's own part; on one process the same object."""
    if world_size() == 1:
        return encoded
    gathered: dict[str, Any] = {name: part if part is None else _Gather.apply(part) for name, part in vars(encoded).items()}
    return Encoded(**gathered)
