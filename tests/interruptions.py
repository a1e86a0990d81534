"""Processes that end themselves in the middle of their work, for the tests that start them again."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class SignalAt(Callback):
    """Sends this process a signal in the hook of that name, once `step` optimizer steps are done; callbacks of ours come later."""

    def __init__(self, hook: str, step: int, name: str = "SIGKILL"):
        setattr(self, hook, self._at)
        self.step, self.signal = step, signal.Signals[name]

    def _at(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.step = -1
            os.kill(os.getpid(), self.signal)


class Seen(Callback):
    """Appends `epoch step rows` of every batch that was learnt to a file of this rank."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        with open(self.folder / f"{trainer.world_size}-{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps([trainer.current_epoch, trainer.global_step, batch.query_rows.tolist()]) + "\n")


class FirstRankDies(Callback):
    """Kills the first rank once `step` optimizer steps are done; the others do not notice, as its connections stay open.

    The files `keeper` and `waiting` in `folder` name the process that keeps them open and a rank that goes on, into the next collective.
    """

    def __init__(self, folder: str, step: int):
        self.folder, self.step = Path(folder), step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self.step:
            return
        waiting = self.folder / "waiting"
        if trainer.global_rank:
            (self.folder / "written").write_text(str(os.getpid()))
            (self.folder / "written").rename(waiting)
            return
        end = time.monotonic() + 60
        while not waiting.exists() and time.monotonic() < end:
            time.sleep(0.01)
        keeper = os.fork()
        if not keeper:
            time.sleep(60)
            os._exit(0)
        (self.folder / "keeper").write_text(str(keeper))
        os.kill(os.getpid(), signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Whether a process of this machine still computes or waits; one that is dead may stay listed until its parent asks how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def killed_at_fsync(count: int, rows_per_shard: int, arguments: list[str]) -> None:
    """Runs a verb with small shards and dies at the `count`-th file that is whole but not yet renamed."""
    import distill.vectors.store_writer
    from distill.cli.main import main

    distill.vectors.store_writer.ROWS_PER_SHARD = rows_per_shard
    fsync, calls = os.fsync, iter(range(1, count + 1))

    def fsync_or_die(file: int) -> None:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    os.fsync = fsync_or_die
    main(arguments)


if __name__ == "__main__":
    killed_at_fsync(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
