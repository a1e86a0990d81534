"""A GPU on a machine without one: tensors that say they are on `cuda:RANK`, whose numbers are on the CPU.

As on a GPU, an operation over tensors of the host and of the GPU is refused, and so are `.numpy()` and a generator of the other device.
What makes the host wait for the GPU is counted by kind and place. Numbers are real: searches, metrics and whole trainings run, which
torch's FakeTensorMode cannot, because it has no numbers to sort or count.

    with simulated_gpu() as gpu:
        scores = torch.zeros(3, device="cuda")
        scores.sum().item()
    gpu.waits  # {Wait("item", "tests/gpu/test_simulation.py:test_waits"): 1}

What it cannot see:
- streams and races: work is done when it is asked for, and a copy that does not block has always arrived;
- numbers of a GPU's kernels: TF32, bf16 products, the operations that autocast chooses, and errors inside of kernels;
- memory: tensors take none of the GPU's, and nothing runs out of it;
- what C++ does below the dispatcher: NCCL, DistributedDataParallel's buckets, CUDA graphs. `simulated_ranks` replaces the first two;
- `.type_as`, where one tensor is the host's: both stay where they are, so that the next operation is refused;
- how long anything takes.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten
# To C++ all tensors are on "cpu", without a number: with one it is Python that asks for the host by name.
ASKED_HOST = torch.device("cpu", 0)
# operations that take tensors of both devices
BETWEEN_DEVICES = {aten.copy_.default, aten._to_copy.default, aten.set_.source_Tensor}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default, aten._unsafe_index.Tensor}
# operations whose result, or its size, the host has to know
WAITING = {
    aten._local_scalar_dense.default: "item",
    aten.bincount.default: "bincount",
    aten.equal.default: "equal",
    aten.masked_select.default: "masked_select",
    aten.multinomial.default: "multinomial",
    aten.nonzero.default: "nonzero",
    aten._unique2.default: "unique",
    aten.unique_consecutive.default: "unique_consecutive",
    aten.unique_dim.default: "unique",
}
PACKAGES = ("/distill/", "/pytorch_lightning/", "/transformers/", "/torchmetrics/", "/sentence_transformers/", "/tests/")
SIMULATION = ("/tests/gpu/simulated_", "/tests/gpu/cuda_stand_ins", "/tests/gpu/conftest")
move_on_host = Tensor.to  # as torch has it; stand-ins replace it


class DeviceMismatch(RuntimeError):
    """What a GPU would refuse."""


class Wait(NamedTuple):
    """What the host waits for, and the function that asks for it."""

    kind: str
    place: str


class SimulatedGpu:
    """The one GPU of this process, and the book of what it was asked for.

    Attributes:
        waits: how often the host waited.
        collectives: how often tensors were sent to other ranks, by (name, place).
        pinned: tensors in pinned memory by their address; they live as long as the GPU, so that no other tensor gets their memory.
    """

    def __init__(self, local_rank: int = 0):
        self.device = torch.device("cuda", local_rank)
        self.waits: Counter[Wait] = Counter()
        self.collectives: Counter[tuple[str, str]] = Counter()
        self.pinned: dict[int, Tensor] = {}

    def count_wait(self, kind: str) -> None:
        self.waits[Wait(kind, find_place())] += 1

    def pin(self, tensor: Tensor) -> Tensor:
        """A copy in pinned memory, as far as anybody can tell."""
        copy = tensor.clone()
        self.pinned[copy.untyped_storage().data_ptr()] = copy
        return copy

    def is_pinned(self, tensor: Tensor) -> bool:
        return not isinstance(tensor, GpuTensor) and tensor.untyped_storage().data_ptr() in self.pinned


ACTIVE: list[SimulatedGpu] = [SimulatedGpu()]  # the last one; tensors that outlive a test still need one


def find_place() -> str:
    """The innermost function of a package that works, and the one of distill that called it."""
    frame: FrameType | None = sys._getframe(1)
    innermost = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if any(package in path for package in PACKAGES) and not any(part in path for part in SIMULATION):
            place = f"{shorten(path)}:{frame.f_code.co_name}"
            if "/distill/" in path:
                return f"{innermost} < {place}" if innermost else place
            innermost = innermost or place
        frame = frame.f_back
    return innermost or "elsewhere"


def shorten(path: str) -> str:
    """A file's path from its package on."""
    start = max(path.rfind(package) for package in PACKAGES)
    return path[start + 1 :]


class GpuTensor(Tensor):
    """Says that it is on the GPU; `numbers` is the same tensor on the CPU. To C++ it is a CPU's tensor without memory."""

    numbers: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: ACTIVE[-1].device)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, numbers: Tensor) -> GpuTensor:
        is_strided = numbers.layout == torch.strided
        strides = numbers.stride() if is_strided else [1] * numbers.ndim
        offset = numbers.storage_offset() if is_strided else 0
        made = Tensor._make_wrapper_subclass(cls, numbers.size(), strides=strides, storage_offset=offset, dtype=numbers.dtype, device="cpu")
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return run_operation(operation, arguments, options or {})

    def get_device(self) -> int:
        return int(ACTIVE[-1].device.index)

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )

    __array__ = numpy

    def tolist(self) -> Any:
        ACTIVE[-1].count_wait("tolist")
        return self.numbers.tolist()

    def record_stream(self, stream: Any) -> None:
        """Memory is nobody's here."""

    def __repr__(self, *_: Any, **__: Any) -> str:
        return f"GpuTensor({self.numbers!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as a CPU's: files that only a machine with this GPU can read are not seen."""
        return self.numbers.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Any:
        copy = GpuTensor(self.numbers.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copy, self.requires_grad)
        return copy.requires_grad_(self.requires_grad)


class Dispatch(TorchDispatchMode):
    """Sees the operations without a tensor of the GPU that ask for one."""

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return run_operation(operation, arguments, options or {})


class Calls(TorchFunctionMode):
    """Sees what Python asks for: the host by name, as in `torch.zeros_like(scores, device="cpu")`, pinned memory, a generator."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = dict(options or {})
        if options.get("generator") is not None:
            check_generator(options["generator"], arguments, options)
        if options.get("device") is not None and torch.device(options["device"]).type == "cpu":
            options["device"] = ASKED_HOST
        is_pinned = bool(options.pop("pin_memory", False))
        result = function(*arguments, **options)
        return ACTIVE[-1].pin(result) if is_pinned else result


def run_operation(operation: Any, arguments: Any, options: dict[str, Any]) -> Any:
    """Runs one operation of C++ as a GPU would, with the CPU's numbers."""
    tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
    target = None if options.get("device") is None else torch.device(options["device"])
    if not on_gpu and (target is None or target.type != "cuda"):
        return operation(*arguments, **options)
    check_device(target)
    if operation is aten._to_copy.default and target is not None and not on_gpu:
        return copy_between(tensors[0], target, options.get("dtype"), not options.get("non_blocking", False))
    refuse_mix(operation, arguments, options, tensors)
    count_waits(operation, arguments, options)
    if target is not None:
        options = {**options, "device": torch.device("cpu")}
    plain_arguments, plain_options = tree_map_only(GpuTensor, lambda tensor: tensor.numbers, (arguments, options))
    with torch._C._DisableTorchDispatch():
        result = operation(*plain_arguments, **plain_options)
    if target == ASKED_HOST:
        return result
    return on_simulated_gpu(result, on_gpu)


def on_simulated_gpu(result: Any, on_gpu: list[GpuTensor]) -> Any:
    """The result's tensors as the GPU's; those that an operation changed in place are the arguments themselves."""
    arguments = {id(tensor.numbers): tensor for tensor in on_gpu}

    def wrap(numbers: Tensor) -> Tensor:
        if id(numbers) not in arguments:
            return GpuTensor(numbers)
        tensor = arguments[id(numbers)]
        if tensor.size() != numbers.size():
            raise NotImplementedError("the simulated GPU does not change a tensor's size in place")
        return tensor

    return tree_map_only(Tensor, wrap, result)


def check_device(device: torch.device | None) -> None:
    """Refuses another rank's GPU."""
    own = ACTIVE[-1].device
    if device is not None and device.type == "cuda" and device.index not in (None, own.index):
        raise DeviceMismatch(f"{device} is another rank's GPU: this rank's is {own}")


def check_generator(generator: torch.Generator, arguments: Any, options: dict[str, Any]) -> None:
    """Refuses a generator of the other device."""
    devices = [tensor.device for tensor in tree_leaves(arguments) if isinstance(tensor, Tensor)]
    wanted = torch.device(options.get("device") or (devices[0] if devices else "cpu"))
    if generator.device.type != wanted.type:
        raise DeviceMismatch(f"Expected a '{wanted.type}' device type for generator but found '{generator.device.type}'")


def refuse_mix(operation: Any, arguments: Any, options: dict[str, Any], tensors: list[Tensor]) -> None:
    """Raises where tensors of both devices meet in one operation."""
    of_host = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor)]
    if not of_host or operation in BETWEEN_DEVICES:
        return
    if operation in INDEXING and isinstance(arguments[0], GpuTensor):
        of_values = [tensor for tensor in tree_leaves(arguments[2:]) if isinstance(tensor, Tensor)]
        of_host = [tensor for tensor in of_values if not isinstance(tensor, GpuTensor)]  # positions may be the host's
    is_fused = "fused" in str(operation)  # a fused optimizer takes no number of the host
    if any(tensor.ndim > 0 or is_fused for tensor in of_host):
        raise DeviceMismatch(f"{operation}: Expected all tensors to be on the same device, but found {ACTIVE[-1].device} and cpu")


def count_waits(operation: Any, arguments: Any, options: dict[str, Any]) -> None:
    """Counts what an operation on the GPU makes the host wait for."""
    gpu = ACTIVE[-1]
    if operation in WAITING:
        gpu.count_wait(WAITING[operation])
    elif operation is aten.repeat_interleave.Tensor and options.get("output_size") is None:
        gpu.count_wait("repeat_interleave")
    elif operation in INDEXING:
        count_index_waits(arguments)
    elif operation is aten.copy_.default and isinstance(arguments[0], GpuTensor) != isinstance(arguments[1], GpuTensor):
        is_blocking = not (options.get("non_blocking") or (len(arguments) > 2 and arguments[2]))
        if arguments[1].ndim:  # else Python's number in `scores[0] = 1.0`, which a GPU gets with the call
            count_copy_waits(arguments[1], arguments[0].device, arguments[0].dtype, is_blocking)


def count_index_waits(arguments: Any) -> None:
    """A mask's true places have to be counted, except where one number is written; positions of the host are copied."""
    positions = [tensor for tensor in arguments[1] if tensor is not None]
    writes_number = len(arguments) > 2 and arguments[2].numel() == 1
    if any(tensor.dtype in (torch.bool, torch.uint8) for tensor in positions) and not writes_number:
        ACTIVE[-1].count_wait("boolean index")
    if any(not isinstance(tensor, GpuTensor) for tensor in positions):
        ACTIVE[-1].count_wait("positions of the host")


def count_copy_waits(source: Tensor, device: torch.device, dtype: torch.dtype, is_blocking: bool) -> None:
    """A copy waits if it blocks, or if the host's memory is not pinned; numbers are converted before they go to the GPU."""
    gpu = ACTIVE[-1]
    to_gpu = device.type == "cuda"
    if to_gpu and dtype != source.dtype and source.numel() > 1:
        gpu.count_wait("converted on the host")
    if is_blocking:
        gpu.count_wait("copy to the GPU" if to_gpu else "copy to the host")
    elif to_gpu and not gpu.is_pinned(source):
        gpu.count_wait("copy to the GPU from memory that is not pinned")


def copy_between(source: Tensor, device: torch.device, dtype: torch.dtype | None, is_blocking: bool) -> Tensor:
    """A copy on the other device."""
    dtype = dtype or source.dtype
    count_copy_waits(source, device, dtype, is_blocking)
    numbers = source.numbers if isinstance(source, GpuTensor) else source
    with torch._C._DisableTorchDispatch():
        copy = move_on_host(numbers.detach(), dtype, copy=True)
    return GpuTensor(copy) if device.type == "cuda" else copy


class CopyBetween(torch.autograd.Function):
    """The same with a gradient, which goes the way back."""

    @staticmethod
    def forward(context: Any, source: Tensor, device: torch.device, dtype: torch.dtype, is_blocking: bool) -> Tensor:
        context.device, context.dtype = source.device, source.dtype
        return copy_between(source, device, dtype, is_blocking)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return copy_between(gradient, context.device, context.dtype, True), None, None, None


def move(tensor: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """`Tensor.to`, between the devices too."""
    if arguments and isinstance(arguments[0], Tensor):
        device, dtype, non_blocking = arguments[0].device, arguments[0].dtype, options.get("non_blocking", False)
    else:
        known = {name: value for name, value in options.items() if name != "copy"}
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*arguments, **known)
    device, dtype = device or tensor.device, dtype or tensor.dtype
    check_device(device)
    if {device.type, tensor.device.type} == {"cpu", "cuda"}:
        return CopyBetween.apply(tensor, device, dtype, not non_blocking)
    if isinstance(tensor, GpuTensor):
        return move_on_host(tensor, dtype, copy=options.get("copy", False))
    return move_on_host(tensor, *arguments, **options)
