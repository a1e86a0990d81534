"""Why an NVIDIA GPU of this machine is not used, where it is not: mostly a driver older than PyTorch's CUDA."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

import torch

from distill.files.progress import log

DRIVER = Path("/proc/driver/nvidia/version")  # of the machine; a container sees it too
CARDS = Path("/dev")  # has nvidia0, nvidia1, ... where this process may use such cards
# generation of CUDA: the first driver of Linux that runs all its versions
FIRST_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}


@cache
def warn_of_idle_gpu() -> None:
    """Says once that a GPU of this machine is not used, and why."""
    reason = describe_idle_gpu()
    if reason:
        log.warning(f"{reason}; until then the CPU computes")


def describe_idle_gpu() -> str | None:
    """Returns why PyTorch uses no GPU although it could, with the fix; None where no GPU is here, or none is wanted."""
    cuda = torch.version.cuda
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if cuda is None or hidden or not DRIVER.exists() or not any(CARDS.glob("nvidia[0-9]*")) or torch.cuda.is_available():
        return None
    match = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", DRIVER.read_text(errors="replace"))
    driver, needed = match.group() if match else "of unknown version", FIRST_DRIVERS.get(int(cuda.split(".")[0]))
    if match and needed and read_version(driver) < read_version(needed):
        fix = "update the driver, or install a PyTorch of an older CUDA"
        return f"the NVIDIA driver {driver} is too old for this PyTorch, whose CUDA {cuda} needs {needed} or later: {fix}"
    return f"PyTorch, of CUDA {cuda}, cannot use the NVIDIA GPU of this machine, with driver {driver}: see what nvidia-smi says"


def read_version(text: str) -> list[int]:
    """Splits a version into numbers that compare.

    >>> read_version("580.65.06") > read_version("570.124")
    True
    """
    return [int(part) for part in text.split(".")]
