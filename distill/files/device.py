"""Where to compute and in which number format; every part of the package decides it here."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from distill.files.driver import warn_of_idle_gpu
from distill.files.launch import read_launch

Precision = Literal["auto", "bf16", "fp32"]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MEMORY, PROCESS = Path("/proc/meminfo"), Path("/proc/self/status")
# files that hold the most bytes that a container may use, and those that it uses, by version of Linux' control groups
CONTAINER_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
_chosen: list[torch.device] = []  # by `computing_on`; the last one counts


def best_device() -> torch.device:
    """The device that `computing_on` names; else the GPU of this process, by its number on the machine; the CPU where there is none."""
    if _chosen:
        return _chosen[-1]
    if not torch.cuda.is_available():
        warn_of_idle_gpu()
        return torch.device("cpu")
    return torch.device("cuda", read_launch().local_rank % torch.cuda.device_count())  # srun may let each process see one GPU only


@contextmanager
def computing_on(device: torch.device) -> Iterator[None]:
    """Makes `device` the one that this process computes on within the block, in all its threads."""
    _chosen.append(device)
    try:
        yield
    finally:
        _chosen.pop()


@cache
def has_fast_bf16(device_type: str) -> bool:
    """Whether the processor multiplies bf16 natively, faster than fp32."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and has_fast_bf16_unit(set(cpuinfo.read_text().split()))


def has_fast_bf16_unit(words: set[str]) -> bool:
    """Tells from the words of /proc/cpuinfo whether a processor has a unit that multiplies bf16 faster than fp32.

    Intel's avx512_bf16 does no more in a cycle than its fp32: measured on a Xeon without AMX, a teacher encoded at 0.65 times the speed.

    >>> has_fast_bf16_unit({"AuthenticAMD", "avx512_bf16"}), has_fast_bf16_unit({"GenuineIntel", "avx512_bf16"})
    (True, False)
    """
    units = {"amx_bf16", "svebf16"} if "GenuineIntel" in words else {"amx_bf16", "svebf16", "avx512_bf16"}
    return bool(words & units)


def resolve_precision(precision: Precision, device_type: str) -> Literal["bf16", "fp32"]:
    """What `auto` means on this device."""
    if precision == "auto":
        return "bf16" if has_fast_bf16(device_type) else "fp32"
    return precision


def used_memory(device: torch.device) -> int | None:
    """Most bytes that this process has had on the GPU, or in main memory, so far; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not PROCESS.exists():
        return None
    sizes = dict(line.split(":", 1) for line in PROCESS.read_text().splitlines() if ":" in line)
    return 1024 * int(sizes["VmHWM"].split()[0]) if "VmHWM" in sizes else None


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on the GPU, or in main memory as far as the limit of a container lets this process use it; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not MEMORY.exists():
        return None
    sizes = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    free = 1024 * int(sizes["MemAvailable"].split()[0])
    for most, used in CONTAINER_LIMITS:
        if most.exists() and used.exists() and most.read_text().strip().isdigit():
            free = min(free, int(most.read_text()) - int(used.read_text()) + cached_memory(most.parent))
    return free


def cached_memory(group: Path) -> int:
    """Bytes of files that a container's share of memory holds, and gives back when a process needs them."""
    path = group / "memory.stat"
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


@cache
def keep_freed_memory() -> None:
    """Lets glibc keep what PyTorch frees for the next batch; else Linux hands out and clears the same pages batch after batch.

    Encoding on a CPU takes 13 to 16% less time so, with the same memory at its peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # not every C library has it
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Computes matrix products in `precision` within the block; sums and normalisation are in fp32 always."""
    is_bf16 = resolve_precision(precision, device.type) == "bf16"
    with fp32_products(device), torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
        yield


@contextmanager
def fp32_products(device: torch.device) -> Iterator[None]:
    """Makes fp32 products exact and fast within the block, whatever was set before: TF32 or bf16 scores would change a ranking.

    The setting belongs to the whole process: only one thread at a time may use it.
    """
    cuda: Any = torch.backends.cuda.matmul
    precision, reduced_sums = torch.get_float32_matmul_precision(), cuda.allow_bf16_reduced_precision_reduction
    try:
        with torch.autocast(device.type, enabled=False):
            torch.set_float32_matmul_precision(exact_matmul_precision(device))
            cuda.allow_bf16_reduced_precision_reduction = False  # products of bf16 are summed in fp32
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        cuda.allow_bf16_reduced_precision_reduction = reduced_sums


def exact_matmul_precision(device: torch.device) -> Literal["medium", "highest"]:
    """The fastest setting of torch's fp32 products that rounds nothing on this device."""
    return "medium" if device.type == "cpu" and _medium_is_exact() else "highest"


@cache
def _medium_is_exact() -> bool:
    """Whether "medium" is exact on this CPU: it selects oneDNN, up to twice as fast, but with AMX it also rounds to bf16."""
    left, right = torch.randn(2, 256, 384, generator=torch.Generator().manual_seed(0)).unbind()
    exact = left.double() @ right.double().T
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    with torch.autocast("cpu", enabled=False):
        error = (left @ right.T - exact).abs().max() / exact.abs().max()
    torch.set_float32_matmul_precision(precision)
    return float(error) < 1e-6


def release_memory() -> None:
    """Gives memory that PyTorch keeps for later back to the GPU, where it counts as free again."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
