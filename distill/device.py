"""Where to compute and in which number format: asked once, here."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def best_device() -> torch.device:
    """This process's own GPU where there is one: launchers number the processes of a machine in LOCAL_RANK."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")


@cache
def computes_bf16(device_type: str) -> bool:
    """Whether bf16 is faster than fp32 there: the processor multiplies it natively."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16", "svebf16"})


def resolved(precision: Precision, device_type: str) -> Literal["bf16", "fp32"]:
    """What `auto` means on this device."""
    if precision == "auto":
        return "bf16" if computes_bf16(device_type) else "fp32"
    return precision


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Matrix products in bf16, sums and normalisation in fp32; with fp32 everything as it is."""
    return torch.autocast(device.type, torch.bfloat16, enabled=resolved(precision, device.type) == "bf16")
