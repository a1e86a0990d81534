"""How often a training step makes the host wait for the GPU: each time the GPU may run out of work. A new wait is a slower training."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import distill
from simulated_gpu import SimulatedGpu, describe
from students import KINDS, TrainStudent, student_arguments

# waits of a step of each kind of student; with 0 a step only gives the GPU more to do
BUDGETS = dict.fromkeys(KINDS, 0)
# Every `log_every_n_steps`, values are written to a file: the losses, which come together, and the norm of the gradients have to be known.
LOG_BUDGET = 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_a_student(train_student: TrainStudent, kind: str) -> None:
    training = train_student(kind)
    assert training.steps >= 3
    assert sum(training.waits.values()) <= BUDGETS[kind] * training.steps, describe(training.waits)


def test_a_step_that_logs(gpu: SimulatedGpu, source_root: Path, store_folder: Path, teacher_folder: Path, tmp_path: Path) -> None:
    arguments = student_arguments("static", source_root, store_folder, teacher_folder, tmp_path / "run")
    assert distill(*arguments, "--trainer.log_every_n_steps", 4) == 0
    waits, _ = gpu.waits_of_steps()  # of steps 3 to 5
    assert 0 < sum(waits.values()) <= LOG_BUDGET, describe(waits)
