"""A simulated GPU for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cuda_stand_ins import simulated_gpu
from simulated_gpu import SimulatedGpu


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> Iterator[SimulatedGpu]:
    """This process's GPU; a world that a test names before it is made on the CPU."""
    with simulated_gpu() as gpu:
        yield gpu
