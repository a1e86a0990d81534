"""A simulated GPU for every test that asks for one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import distill
from cuda_stand_ins import simulated_gpu
from simulated_gpu import SimulatedGpu
from students import Training, TrainStudent, student_arguments


@pytest.fixture(scope="session")
def train_student(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path, teacher_folder: Path) -> TrainStudent:
    """Trains a student of a kind, once."""

    @functools.cache
    def train(kind: str) -> Training:
        run = tmp_path_factory.mktemp("students") / "run"
        arguments = student_arguments(kind, source_root, store_folder, teacher_folder, run)
        with simulated_gpu() as gpu:
            assert distill(*arguments) == 0
        return Training(run, *gpu.waits_of_steps())

    return train


@pytest.fixture
def gpu(source_root: Path, store_folder: Path, teacher_folder: Path) -> Iterator[SimulatedGpu]:
    """This process's GPU, which every test has to use; the small world is made before, on the CPU."""
    with simulated_gpu() as gpu:
        yield gpu
    assert gpu.operations, "nothing ran on the GPU"


@pytest.fixture(autouse=True)
def short_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is measured on a few queries, and no ONNX graphs are exported: both run on the CPU, and take most of a small job."""
    monkeypatch.setattr("distill.evaluation.latency.MOST_SECONDS", 0.0)
    monkeypatch.setattr("distill.evaluation.latency.LEAST_ROUNDS", 1)
    monkeypatch.setattr("distill.export.serving.missing_packages", lambda: ["onnxruntime"])
