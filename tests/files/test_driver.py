"""A GPU that PyTorch does not use is named with its driver; nothing is said where there is none, or none is wanted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from distill.files import driver
from distill.files.device import best_device
from distill.files.driver import describe_idle_gpu, warn_of_idle_gpu

LINE = "NVRM version: NVIDIA UNIX {kind}x86_64  {driver}  Tue Mar  5 22:23:56 UTC 2030\nGCC version:  gcc version 12.2.0 (Debian)\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a card, a driver of CUDA 12, and a PyTorch of CUDA 13."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    (tmp_path / "version").write_text(LINE.format(kind="", driver="550.54.15"))
    monkeypatch.setattr(driver, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(driver, "CARDS", tmp_path / "dev")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    warn_of_idle_gpu.cache_clear()
    return tmp_path


def test_a_driver_that_is_too_old_is_said_once(machine: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="distill"):
        assert best_device() == best_device() == torch.device("cpu")
    assert caplog.messages == [
        "the NVIDIA driver 550.54.15 is too old for this PyTorch, whose CUDA 13.0 needs 580.65.06 or later: "
        "update the driver, or install a PyTorch of an older CUDA; until then the CPU computes"
    ]


@pytest.mark.parametrize("version", ["580.65.06", "610.12", "unknown"])
def test_another_reason_is_looked_up_elsewhere(machine: Path, version: str) -> None:
    (machine / "version").write_text(LINE.format(kind="Open Kernel Module for ", driver=version))
    said = describe_idle_gpu() or ""
    assert "cannot use the NVIDIA GPU" in said and (version if version != "unknown" else "of unknown version") in said
    assert said.endswith("see what nvidia-smi says")


@pytest.mark.parametrize("change", ["no card", "no driver", "CPU build", "hidden", "used"])
def test_nothing_is_said_where_nothing_is_wrong(machine: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if change == "no card":  # as in a container on a machine with a GPU
        (machine / "dev" / "nvidia0").unlink()
        (machine / "dev" / "nvidiactl").touch()
    if change == "no driver":
        (machine / "version").unlink()
    if change == "CPU build":
        monkeypatch.setattr(torch.version, "cuda", None)
    if change == "hidden":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if change == "used":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert describe_idle_gpu() is None
