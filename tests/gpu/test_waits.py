"""How often a training step makes the host wait for the GPU: each time the GPU runs out of work. A new wait is a slower training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from commands import distill, teach_arguments
from simulated_gpu import SimulatedGpu, Wait
from students import KINDS, ON_GPU, ONE_EPOCH, student_arguments

NOTE_WAITS = ["--trainer.callbacks", '[{"class_path": "step_waits.StepWaits"}]']
# waits of a step, by kind of student; where 0, a step only gives the GPU more to do
BUDGETS = {
    "cut": 8,
    "clipped": 8,
    "backbone": 8,
    "static": 7,
    "every loss": 12,
    "shared documents": 16,
    "separate documents": 16,
    "teacher's documents": 16,
    "fresh": 11,
}


def waits_of_steps(gpu: SimulatedGpu) -> tuple[Counter[Wait], int]:
    """The waits of all steps but the first two, which make what later ones use, and the last, which ends an epoch; and their number."""
    steps = gpu.waits_after_steps[1:-1]
    return steps[-1] - steps[0], len(steps) - 1


def describe(waits: Counter[Wait]) -> str:
    return "\n".join(f"{count:4d} {wait.kind}: {wait.place}" for wait, count in waits.most_common())


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_a_student(
    source_root: Path, store_folder: Path, teacher_folder: Path, gpu: SimulatedGpu, tmp_path: Path, kind: str
) -> None:
    arguments = student_arguments(kind, source_root, store_folder, teacher_folder, tmp_path / "run", *NOTE_WAITS)
    assert distill(*arguments) == 0
    waits, steps = waits_of_steps(gpu)
    assert steps >= 3 and sum(waits.values()) <= BUDGETS[kind] * steps, describe(waits)
    assert distill("evaluate", tmp_path / "run") == 0


def test_logging_waits_once_in_a_while(
    source_root: Path, store_folder: Path, teacher_folder: Path, gpu: SimulatedGpu, tmp_path: Path
) -> None:
    """Values that are written to a file have to be known."""
    counts = []
    for every in (1000, 2):
        gpu.waits_after_steps.clear()
        log = ["--trainer.log_every_n_steps", every]
        run = tmp_path / str(every)
        assert distill(*student_arguments("cut", source_root, store_folder, teacher_folder, run, *NOTE_WAITS, *log)) == 0
        waits, steps = waits_of_steps(gpu)
        counts.append(waits)
    print(describe(counts[1] - counts[0]), steps)


@pytest.mark.parametrize(("model", "budget"), [("DualTeacher", 100), ("CrossTeacher", 100)])
def test_a_step_of_a_teacher(
    source_root: Path, store_folder: Path, teacher_folder: Path, gpu: SimulatedGpu, tmp_path: Path, model: str, budget: int
) -> None:
    more = [] if model == "DualTeacher" else ["--data.first_stage", store_folder]
    arguments = teach_arguments(source_root, teacher_folder, tmp_path / "run", *more, *ON_GPU, *ONE_EPOCH, *NOTE_WAITS, model=model)
    assert distill(*arguments) == 0
    waits, steps = waits_of_steps(gpu)
    print(describe(waits), steps)
    assert steps >= 3 and sum(waits.values()) <= budget * steps, describe(waits)
