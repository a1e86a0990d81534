"""The ranks of a training: which one this process is, how many there are, and gathering their batches with the gradient.

The only file that imports torch.distributed.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from distill.records import Encoded


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among the ranks; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def is_leader() -> bool:
    """Whether this process does the work that one rank does for all; known before there is a process group."""
    return getattr(rank_zero_only, "rank", 0) == 0


def leave_rank() -> NoReturn:
    """Ends this process at once, with exit code 0 and without cleaning up.

    While the other ranks leave too, cleaning up can abort: the threads of the process group lose their partners.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def max_over_ranks(value: int, device: torch.device) -> int:
    """The highest `value` of any rank; every rank must call it."""
    if world_size() == 1:
        return value
    values = torch.tensor([value], device=device)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return int(values)


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of all ranks' `value`, for which the host does not wait; every rank must call it."""
    if world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


class _Gather(torch.autograd.Function):
    """Gathers every rank's rows in rank order; all ranks must bring equally many."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        if rows.numel():  # with K = 0 candidates there is nothing to send, which not every backend accepts
            dist.all_gather(parts, rows.contiguous())
        context.own_rows = slice(rank() * len(rows), (rank() + 1) * len(rows))
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        # Every rank computes the same loss over the whole batch but the gradient of its own rows only. DDP's mean over ranks divides
        # the sum of these gradients by the number of ranks; the factor undoes that, which leaves the gradient of one process.
        return gradient[context.own_rows] * world_size()


def gather_rows(rows: Tensor) -> Tensor:
    """Every rank's rows [n, ...] in rank order, however many each brings; without gradient."""
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
    """The batches of all ranks as one, differentiable in every rank's own rows; on one process the same object."""
    if world_size() == 1:
        return encoded
    gathered: dict[str, Any] = {}
    for name, part in vars(encoded).items():
        gathered[name] = None if part is None else _Gather.apply(part)
    return Encoded(**gathered)
