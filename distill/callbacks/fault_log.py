"""Writes the warnings of a training to the log, to health.jsonl, and to trackers that send alerts."""

from __future__ import annotations

import json
from pathlib import Path

from pytorch_lightning import Trainer

from distill.callbacks.run_log import read_lines, write_lines
from distill.files.progress import log
from distill.teachers.agreement import Fault

WARNINGS = "health.jsonl"


class FaultLog:
    """Reports each kind of fault once in a run.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path):
        self.path = folder / WARNINGS
        self.reported: set[str] = set()  # names of reported faults, which a checkpoint stores

    def report(self, trainer: Trainer, fault: Fault) -> None:
        """Warns of a fault, on one rank, unless one of the same name was reported before."""
        if fault.name in self.reported or not trainer.is_global_zero:
            return
        self.reported.add(fault.name)
        log.warning(fault.message)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": trainer.global_step, "fault": fault.name, "message": fault.message}) + "\n")
        for logger in trainer.loggers:
            experiment = getattr(logger, "experiment", None)
            if alert := getattr(experiment, "alert", None):  # wandb
                alert(title=f"distill: {fault.name}", text=fault.message)
            elif add_text := getattr(experiment, "add_text", None):  # TensorBoard
                add_text(f"alert/{fault.name}", fault.message, trainer.global_step)

    def rewind(self) -> None:
        """Removes the faults that were reported after the checkpoint from which the run continues: they will be reported again."""
        if self.path.exists():
            write_lines(self.path, [line for line in read_lines(self.path) if line.get("fault") in self.reported])
