"""What the extras for faiss ask for, and that one environment gets one of its packages."""

from __future__ import annotations

import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$*" in *show*) test "$5" = {installed} ;; esac
"""


@pytest.fixture(scope="module")
def extras() -> dict[str, list[str]]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return {name: lines.split("\n")[1:] for name, lines in setup["options.extras_require"].items()}


def test_cpu_and_gpu_may_meet_in_one_environment(extras: dict[str, list[str]]) -> None:
    """PyTorch alone brings CUDA then, in one version."""
    assert extras["cpu"] == extras["gpu"] == ["faiss-cpu>=1.9"]


def test_faiss_on_a_gpu_shares_the_cuda_of_pytorch(extras: dict[str, list[str]]) -> None:
    """1.15 is the first with code for Hopper, of CUDA 12, as is PyTorch before 2.11."""
    assert [line.split(";")[0] for line in extras["faiss-gpu"]] == ["faiss-gpu>=1.15", "torch<2.11"]
    assert not [name for name, lines in extras.items() if name != "faiss-gpu" and "faiss-gpu" in " ".join(lines)]


@pytest.mark.parametrize(
    ("asked", "installed", "refused"),
    [("faiss-gpu", "faiss-cpu", 1), ("dev,cpu", "faiss-gpu", 1), ("gpu", "faiss-cpu", 0), ("faiss-gpu", "neither", 0)],
)
def test_make_puts_one_faiss_into_an_environment(asked: str, installed: str, refused: int, tmp_path: Path) -> None:
    """The tested versions, too, but beside faiss-gpu, which pip could not install with the tested PyTorch."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON.format(folder=tmp_path, installed=installed))
    python.chmod(0o755)
    made = subprocess.run(["make", "setup", f"VENV={tmp_path}", f"EXTRAS={asked}"], cwd=ROOT, capture_output=True, text=True)
    commands = (tmp_path / "asked").read_text()
    has_installed = " install " in commands
    assert ("--constraint" in commands) == (has_installed and "faiss-gpu" not in asked)
    assert (made.returncode != 0, has_installed, (tmp_path / f".{asked}").exists()) == (bool(refused), not refused, not refused)
    assert (f"has {installed}, which .[{asked}] would break: make clean first" in made.stderr) == bool(refused)
