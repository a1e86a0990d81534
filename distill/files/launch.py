"""How this process was started: alone, or as one of the ranks that torchrun, srun or the first rank of a training started.

The only file that reads what they say in the environment. It imports nothing that takes time.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from functools import cache

# environment variable: id of the process through which Lightning starts the other ranks of its machine
FIRST_RANK = "DISTILL_FIRST_RANK"
INTERACTIVE_JOBS = ("bash", "interactive")  # names of SLURM jobs in whose shells Lightning, too, sees no ranks
SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together.

    Attributes:
        rank: its number among all of them.
        world_size: how many there are.
        local_rank: its number among those on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0


def read_launch() -> Launch:
    """Reads this process's place from what torchrun or srun say; without either it is alone.

    torchrun counts where both speak, as it may run under srun. An interactive shell of SLURM, and a batch script outside srun, are one
    process however many tasks their job may start.
    """
    local_rank = os.environ.get("LOCAL_RANK")  # the first rank of a training, too, sets it for those that it starts
    if os.environ.get("RANK"):
        return Launch(_read_number("RANK"), _read_number("WORLD_SIZE", 1), int(local_rank or 0))
    if local_rank:
        return Launch(local_rank=int(local_rank))
    if not is_started_by_srun():
        return Launch()
    # SLURM_NTASKS may be the number of the whole job
    return Launch(_read_number("SLURM_PROCID"), _read_number("SLURM_STEP_NUM_TASKS", 1), _read_number("SLURM_LOCALID"))


def is_started_by_srun() -> bool:
    """Whether srun started this process to compute, and not a shell for somebody to type in."""
    return "SLURM_STEP_NUM_TASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in INTERACTIVE_JOBS


def _read_number(name: str, default: int = 0) -> int:
    return int(os.environ.get(name) or default)


def is_started_by_first_rank() -> bool:
    """Whether the first rank of a training on this machine, the parent of this process, started it as another rank."""
    # a training leaves the variables to whatever its process starts later: so the ids are compared, and the first rank's number is 0
    return os.environ.get(FIRST_RANK) == str(os.getppid()) and _read_number("LOCAL_RANK") > 0


def end_with_launcher() -> None:
    """Ends this process as soon as its parent is dead, where that is torchrun or the first rank of its training.

    Else it would wait in a collective for ranks that are gone, and keep its GPU. srun ends its processes itself.
    """
    if is_started_by_first_rank() or "TORCHELASTIC_RUN_ID" in os.environ:
        _watch_parent()


@cache
def _watch_parent() -> None:
    """Starts the thread that watches the parent, once."""
    threading.Thread(target=_end_with, args=(os.getppid(),), name="parent", daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when `parent` is not its parent any more.

    Linux can send a signal instead, but sends it already when the thread ends that started this process, and not only with the parent.
    Python runs this thread while the main one waits in a collective, which would keep any handler of a signal from running.
    """
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)  # a clean end would wait for the others
