"""Where a result comes from: code, machine, time."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("distill", "torch", "pytorch-lightning", "transformers", "torchmetrics")


def collect_provenance() -> dict[str, Any]:
    """Commit, command line, package versions, hardware and time, as values that JSON can hold."""
    import torch

    return {
        "commit": _find_commit(),
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _find_version(name) for name in PACKAGES},
        "processor": _find_processor(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _find_commit() -> str | None:
    """The commit of this package's own checkout, with `+changes` where files differ from it; None where it is installed otherwise."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _run_git(root, "rev-parse", "HEAD")
        changes = _run_git(root, "status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def _run_git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _find_processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()
