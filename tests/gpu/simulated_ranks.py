"""Ranks that have a simulated GPU each: collectives are gloo's, but refuse tensors of the host, as NCCL does.

    python -m simulated_ranks VERB OPTIONS

runs a verb as one of the ranks that torchrun started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from cuda_stand_ins import simulated_gpu
from pytorch_lightning.strategies import DDPStrategy
from simulated_gpu import ACTIVE, DeviceMismatch, GpuTensor, find_place
from torch import Tensor
from torch.utils._pytree import tree_leaves

COLLECTIVES = ("all_gather", "all_reduce", "broadcast", "reduce", "all_gather_into_tensor", "reduce_scatter", "gather", "scatter")


def replace_collectives(patch: pytest.MonkeyPatch) -> None:
    """torch.distributed's functions on tensors, its start, and Lightning's part of it."""
    for name in COLLECTIVES:
        patch.setattr(dist, name, refuse_host_tensors(name, getattr(dist, name)))
    start = dist.init_process_group
    patch.setattr(dist, "init_process_group", lambda *arguments, device_id=None, **options: start(*arguments, **options))
    patch.setattr(DDPStrategy, "_get_process_group_backend", lambda strategy: "gloo")
    patch.setattr(DDPStrategy, "_setup_model", lambda strategy, module: MeanGradients(module))
    patch.setattr(DDPStrategy, "_register_ddp_hooks", lambda strategy: None)


def refuse_host_tensors(name: str, send: Callable[..., Any]) -> Callable[..., Any]:
    """A collective that NCCL would take."""

    def send_from_gpu(*arguments: Any, **options: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
        if not all(isinstance(tensor, GpuTensor) for tensor in tensors):
            raise DeviceMismatch(f"{name}: No backend type associated with device type cpu")
        ACTIVE[-1].collectives[name, find_place()] += 1
        return send(*arguments, **options)

    return send_from_gpu


class MeanGradients(torch.nn.Module):
    """Stands for DistributedDataParallel: the first rank's weights at the start, the mean gradient of all ranks in each backward pass."""

    require_backward_grad_sync = True

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module, self.group = module, dist.group.WORLD
        for tensor in [*module.parameters(), *module.buffers()]:
            self._send(tensor, lambda numbers: self.group.broadcast([numbers], dist.BroadcastOptions()))
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(self._average_gradient)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.module(*arguments, **options)

    def _average_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._send(parameter.grad, lambda numbers: self.group.allreduce([numbers]))
        with torch.no_grad():
            parameter.grad /= self.group.size()

    def _send(self, tensor: Tensor, send: Callable[[Tensor], Any]) -> None:
        if not isinstance(tensor, GpuTensor):
            raise DeviceMismatch("DistributedDataParallel over NCCL takes tensors of its GPU")
        with torch._C._DisableTorchDispatch(), torch.no_grad():
            numbers = tensor.numbers.detach().contiguous()
            send(numbers).wait()
            tensor.numbers.detach().copy_(numbers)


def main() -> int:
    """Runs the verb of the command line on this rank's GPU."""
    from distill.cli import main as command_line

    local_rank, ranks = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    with pytest.MonkeyPatch.context() as patch, simulated_gpu(local_rank, ranks):
        replace_collectives(patch)
        return command_line.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
