"""The simulated GPU refuses what a GPU refuses, and counts what a GPU would make the host wait for."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_stand_ins import simulated_gpu
from simulated_gpu import DeviceMismatch, GpuTensor, SimulatedGpu


def test_tensors_of_both_devices_do_not_meet(gpu: SimulatedGpu) -> None:
    scores, host = torch.zeros(3, 4, device="cuda"), torch.ones(4)
    rows = torch.zeros(3, dtype=torch.int64, device="cuda")
    for mistake in (
        lambda: scores + host,
        lambda: scores @ host,
        lambda: torch.cat([scores, host[None]]),
        lambda: host[rows],
        lambda: scores.masked_fill(host > 0, 1.0),
        lambda: scores.index_put_((rows,), host),
        lambda: torch.nn.functional.linear(scores, torch.eye(4)),
        lambda: scores.gather(1, torch.zeros(3, 1, dtype=torch.int64)),
    ):
        with pytest.raises(DeviceMismatch, match="same device"):
            mistake()


def test_what_may_cross(gpu: SimulatedGpu) -> None:
    scores = torch.arange(12.0, device="cuda").view(3, 4)
    assert isinstance(scores + torch.tensor(1.0), GpuTensor)  # a number of the host
    assert scores[torch.tensor([0, 2])].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]  # positions of the host
    assert torch.zeros_like(scores, device="cpu").device.type == "cpu"
    assert torch.zeros_like(scores).device == scores.new_zeros(2).device == scores.new_tensor([1]).device == gpu.device
    host = torch.zeros(3, 4)
    assert host.copy_(scores).numpy().sum() == 66
    weight = torch.ones(4, requires_grad=True)
    (scores @ weight.to("cuda")).sum().cpu().backward()
    assert weight.grad is not None and weight.grad.tolist() == [12, 15, 18, 21] and weight.grad.device.type == "cpu"


def test_numpy_takes_none_of_its_tensors(gpu: SimulatedGpu, tmp_path: Path) -> None:
    scores = torch.zeros(2, device="cuda")
    for mistake in (scores.numpy, lambda: np.asarray(scores), lambda: np.save(tmp_path / "scores.npy", scores)):
        with pytest.raises(TypeError, match="convert cuda:0 device type tensor to numpy"):
            mistake()
    assert scores.cpu().numpy().tolist() == [0, 0]


def test_generators_have_a_device(gpu: SimulatedGpu) -> None:
    generator = torch.Generator(device="cuda").manual_seed(1)
    first = torch.randn(3, device="cuda", generator=generator)
    assert first.tolist() == torch.randn(3, device="cuda", generator=generator.manual_seed(1)).tolist()
    with pytest.raises(DeviceMismatch, match="generator"):
        torch.randn(3, device="cuda", generator=torch.Generator())


def test_modules_move(gpu: SimulatedGpu) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    module.to("cuda")
    assert module[1].weight is module[0].weight and isinstance(module[0].weight, torch.nn.Parameter)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[0].weight.zero_()
    assert module[0].weight.abs().sum() > 0 and other[1].weight.abs().sum() == 0
    module(torch.ones(2, 2, device="cuda")).sum().backward()
    torch.optim.AdamW(module.parameters(), fused=True).step()
    assert module.to("cpu")[0].weight.grad.device.type == "cpu"


def test_waits_are_counted(gpu: SimulatedGpu) -> None:
    scores = torch.arange(4.0, device="cuda")
    for kind, wait in {
        "item": lambda: bool(scores[0] > 1),
        "tolist": scores.tolist,
        "nonzero": lambda: torch.where(scores > 1),
        "boolean index": lambda: scores[scores > 1],
        "positions of the host": lambda: scores[torch.tensor([1])],
        "copy to the host": scores.cpu,
        "copy to the GPU": lambda: torch.ones(3).cuda(),
        "copy to the GPU from memory that is not pinned": lambda: torch.ones(3).to("cuda", non_blocking=True),
        "converted on the host": lambda: torch.ones(3).pin_memory().to("cuda", torch.float16, non_blocking=True),
        "synchronize": torch.cuda.synchronize,
    }.items():
        gpu.waits.clear()
        wait()
        assert [(wait.kind, count) for wait, count in gpu.waits.items()] == [(kind, 1)]
        assert all(wait.place.startswith("tests/gpu/test_simulation.py:") for wait in gpu.waits)


def test_what_does_not_wait(gpu: SimulatedGpu) -> None:
    gpu.waits.clear()
    scores = torch.ones(3).pin_memory()[:2].to("cuda", non_blocking=True).to(torch.float16)
    scores[scores > 0] = 2.0
    scores[0] = 1.0
    torch.empty(2, pin_memory=True).copy_(scores, non_blocking=True)
    assert gpu.waits == {}


def test_another_ranks_gpu_is_refused() -> None:
    with simulated_gpu(local_rank=1, gpus=2):
        assert torch.zeros(1, device="cuda").device == torch.device("cuda", 1)
        with pytest.raises(DeviceMismatch, match="cuda:0 is another rank's GPU"):
            torch.zeros(1).to("cuda:0")
        with pytest.raises(DeviceMismatch, match="cuda:0 is another rank's GPU"):
            torch.zeros(1, device="cuda:0")
