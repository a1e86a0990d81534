"""What torchrun, srun and the first rank of a training say, and a rank whose launcher dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from interruptions import is_running

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
        ({"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": ""}, Launch(0, 1, 0)),  # taken back by a script
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


RANK = "import time; from distill.files.launch import end_with_launcher; end_with_launcher(); print(flush=True); time.sleep(30)"
LAUNCHER = f"import subprocess, sys; rank = subprocess.Popen([sys.executable, '-c', {RANK!r}]); print(rank.pid, flush=True); rank.wait()"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_rank_ends_with_its_torchrun_and_nothing_else_does() -> None:
    """tests/training/test_torchrun.py has one that the first rank started, while it waits for the others."""
    started = []
    for environment in ({"TORCHELASTIC_RUN_ID": "1"}, {}):
        command = [sys.executable, "-c", LAUNCHER]
        started.append(subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True))
    lines = [[process.stdout.readline() for _ in range(2)] for process in started if process.stdout]
    rank, other = (int("".join(of_one)) for of_one in lines)  # the second line is empty: it watches now
    for process in started:
        process.kill()
        process.wait()
    end = time.monotonic() + 10
    while is_running(rank) and time.monotonic() < end:
        time.sleep(0.02)
    is_left = [is_running(pid) for pid in (rank, other)]
    os.kill(other, signal.SIGKILL)
    assert is_left == [False, True]
