"""A simulated GPU for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cuda_stand_ins import simulated_gpu
from simulated_gpu import SimulatedGpu


@pytest.fixture
def gpu(source_root: Path, store_folder: Path, teacher_folder: Path) -> Iterator[SimulatedGpu]:
    """This process's GPU, which every test has to use; the small world is made before, on the CPU."""
    with simulated_gpu() as gpu:
        yield gpu
    assert gpu.operations, "nothing ran on the GPU"
