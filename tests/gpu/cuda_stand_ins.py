"""What Python finds in torch on a machine with GPUs, where there are none."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from simulated_gpu import ACTIVE, Calls, DeviceMismatch, Dispatch, GpuTensor, SimulatedGpu, move
from torch import Tensor
from torch.amp.autocast_mode import autocast

from distill.files.device import has_fast_bf16

MEMORY = 80 << 30
PROPERTIES = SimpleNamespace(name="simulated GPU", major=9, minor=0, total_memory=MEMORY, multi_processor_count=132)


@contextlib.contextmanager
def simulated_gpu(local_rank: int = 0, gpus: int = 1) -> Iterator[SimulatedGpu]:
    """A machine with so many GPUs, of which this process has that of its rank, within the block.

    Make what needs no GPU before: a test's texts, stores and models.
    """
    gpu = SimulatedGpu(local_rank)
    ACTIVE.append(gpu)
    has_fast_bf16.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            replace_cuda(patch, gpu, gpus)
            replace_tensor_methods(patch, gpu)
            replace_factories(patch)
            replace_modes(patch)
            with Dispatch(), Calls():
                yield gpu
    finally:
        ACTIVE.remove(gpu)
        has_fast_bf16.cache_clear()


class Stream:
    """Work is done when it is asked for: nothing is left to wait for, but who asks whether it is done waits."""

    def __init__(self, *_: Any, **__: Any): ...
    def wait_stream(self, *_: Any) -> None: ...
    def wait_event(self, *_: Any) -> None: ...
    def record_event(self, *_: Any) -> Event:
        return Event()

    def synchronize(self) -> None:
        ACTIVE[-1].count_wait("synchronize")


class Event(Stream):
    def record(self, *_: Any) -> None: ...
    def wait(self, *_: Any) -> None: ...
    def query(self) -> bool:
        return True

    def elapsed_time(self, *_: Any) -> float:
        return 1.0


class Generator(torch.Generator):
    """Says on which device it makes random numbers."""

    device = property(lambda self: self.made_for)  # type: ignore[assignment]

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")
        made.made_for = torch.device(device)
        return made


def replace_cuda(patch: pytest.MonkeyPatch, gpu: SimulatedGpu, gpus: int) -> None:
    """torch.cuda's functions."""
    values: dict[str, Any] = {
        "is_available": True,
        "is_bf16_supported": True,
        "is_initialized": True,
        "is_current_stream_capturing": False,
        "device_count": gpus,
        "current_device": gpu.device.index,
        "get_device_name": PROPERTIES.name,
        "get_device_capability": (PROPERTIES.major, PROPERTIES.minor),
        "get_device_properties": PROPERTIES,
        "get_arch_list": ["sm_90"],
        "mem_get_info": (MEMORY, MEMORY),
        "max_memory_allocated": 0,
        "memory_allocated": 0,
        "memory_reserved": 0,
        "memory_stats": {},
        "utilization": 0,
        **dict.fromkeys(("_lazy_init", "empty_cache", "reset_peak_memory_stats", "set_device"), None),
    }
    for name, value in values.items():
        patch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    functions = {
        "synchronize": lambda *_: gpu.count_wait("synchronize"),
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "get_rng_state_all": list,
        "set_rng_state_all": lambda *_: None,
        "manual_seed_all": lambda *_: None,
        "Stream": Stream,
        "Event": Event,
        "current_stream": Stream,
        "default_stream": Stream,
        "stream": lambda *_: contextlib.nullcontext(),
        "device": lambda *_: contextlib.nullcontext(),
    }
    for name, function in functions.items():
        patch.setattr(torch.cuda, name, function)
    patch.setattr(torch, "Generator", Generator)


def replace_tensor_methods(patch: pytest.MonkeyPatch, gpu: SimulatedGpu) -> None:
    """Methods for which C++ would look for a GPU."""
    patch.setattr(Tensor, "to", move)
    patch.setattr(Tensor, "cpu", lambda tensor, *_, **__: move(tensor, "cpu"))
    patch.setattr(Tensor, "cuda", lambda tensor, *_, non_blocking=False, **__: move(tensor, gpu.device, non_blocking=non_blocking))
    patch.setattr(Tensor, "pin_memory", lambda tensor, *_: gpu.pin(tensor))
    patch.setattr(Tensor, "is_pinned", lambda tensor, *_: gpu.is_pinned(tensor))
    patch.setattr(torch.nn.Module, "_apply", apply_to_module)


def replace_factories(patch: pytest.MonkeyPatch) -> None:
    """Functions that make a tensor of values, which they move where the dispatcher does not look."""

    def moving(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make_and_move(*arguments: Any, device: Any = None, **options: Any) -> Tensor:
            made = make(*arguments, **options)
            return made if device is None else made.to(device)

        return make_and_move

    for name in ("tensor", "as_tensor"):
        patch.setattr(torch, name, moving(getattr(torch, name)))
    patch.setattr(Tensor, "new_tensor", new_tensor)
    make_sparse = torch.sparse_csr_tensor

    def sparse_csr_tensor(*parts: Any, **options: Any) -> Tensor:
        of_gpu = [isinstance(part, GpuTensor) for part in parts[:3]]  # row starts, columns, values
        if not any(of_gpu):
            return make_sparse(*parts, **options)
        if not all(of_gpu):
            raise DeviceMismatch("sparse_csr_tensor: Expected all tensors to be on the same device")
        with torch._C._DisableTorchDispatch():
            return GpuTensor(make_sparse(*(part.numbers for part in parts[:3]), *parts[3:], **options))

    patch.setattr(torch, "sparse_csr_tensor", sparse_csr_tensor)


def new_tensor(tensor: Tensor, values: Any, **options: Any) -> Tensor:
    """`Tensor.new_tensor`."""
    return torch.tensor(values, **{"device": tensor.device, "dtype": tensor.dtype, **options})


def replace_modes(patch: pytest.MonkeyPatch) -> None:
    """Autocast is the CPU's, inference mode keeps no gradients only, and threads work with the GPU too."""
    start_autocast = autocast.__init__

    def start_on_cpu(block: Any, device_type: str, *arguments: Any, **options: Any) -> None:
        start_autocast(block, "cpu" if device_type == "cuda" else device_type, *arguments, **options)

    patch.setattr(autocast, "__init__", start_on_cpu)

    def enter(block: Any) -> None:  # views of a wrapper need a version, which tensors of inference mode do not have
        block.had_gradients = torch.is_grad_enabled()
        torch._C._set_grad_enabled(block.had_gradients and not block.mode)

    patch.setattr(torch.inference_mode, "__enter__", enter)
    patch.setattr(torch.inference_mode, "__exit__", lambda block, *_: torch._C._set_grad_enabled(block.had_gradients))
    run = threading.Thread.run

    def run_with_gpu(thread: threading.Thread) -> None:
        with Dispatch(), Calls():
            run(thread)

    patch.setattr(threading.Thread, "run", run_with_gpu)


def apply_to_module(module: torch.nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> torch.nn.Module:
    """`Module._apply` by new parameters, tied ones tied as before: torch would write a GPU's numbers into the old ones."""
    changed: dict[int, tuple[Tensor, Tensor]] = {}  # with the old one, which lives on so that no other gets its id

    def change_once(old: Tensor) -> Tensor:
        if id(old) not in changed:
            new = change(old)
            if new is not old and isinstance(old, torch.nn.Parameter):
                new = torch.nn.Parameter(new, old.requires_grad)
                new.grad = None if old.grad is None else change(old.grad)
            changed[id(old)] = old, new
        return changed[id(old)][1]

    with torch.no_grad():
        for part in module.modules() if recurse else [module]:
            for tensors in (part._parameters, part._buffers):
                tensors.update({name: change_once(old) for name, old in tensors.items() if old is not None})
    return module
