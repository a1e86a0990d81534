"""What torchrun, srun and the first rank of a training say, and a rank whose launcher dies."""

from __future__ import annotations

import os

import pytest

from distill.files.launch import FIRST_RANK, Launch, is_started_by_first_rank, read_launch

ALL = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_NAME")
SRUN = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "8", "SLURM_JOB_NAME": "train"}
TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("variables", "launch"),
    [
        ({}, Launch(0, 1, 0)),
        (TORCHRUN, Launch(2, 4, 0)),
        (SRUN, Launch(5, 8, 1)),
        ({**SRUN, **TORCHRUN}, Launch(2, 4, 0)),  # torchrun on each node, which srun started
        ({**SRUN, "SLURM_NTASKS": "16"}, Launch(5, 8, 1)),  # of a job of two such steps
        ({**SRUN, "SLURM_JOB_NAME": "bash"}, Launch(0, 1, 0)),
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, Launch(0, 1, 0)),
        ({"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "job"}, Launch(0, 1, 0)),  # salloc's shell
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, Launch(0, 1, 0)),  # a batch script, outside srun
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Launch(0, 1, 0)),  # srun --pty
        ({"LOCAL_RANK": "3", "WORLD_SIZE": "4"}, Launch(0, 1, 3)),  # started by the first rank of a training
    ],
)
def test_place_among_those_started_together(variables: dict[str, str], launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_launch() == launch


@pytest.mark.parametrize(("parent", "local_rank", "answer"), [(0, "1", True), (0, "0", False), (1, "1", False)])
def test_only_other_ranks_are_started_by_the_first(parent: int, local_rank: str, answer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what the first rank starts later, nor what somebody else starts after a training in the same process."""
    monkeypatch.setenv(FIRST_RANK, str(os.getppid() + parent))
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert is_started_by_first_rank() is answer
