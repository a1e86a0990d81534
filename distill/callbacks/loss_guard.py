"""Stops a training whose loss is no number, on all ranks at the same step, and writes the ids of the last queries to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from distill.callbacks.diagnosis import read_query_ids
from distill.callbacks.fault_log import FaultLog
from distill.data.datamodule import RetrievalData
from distill.files.atomic import write_json
from distill.files.ranks import gather_rows, leave_rank, max_over_ranks
from distill.records import BadInput
from distill.teachers.agreement import Fault

REMEDY = "lower model.learning_rate, clip gradients or train in fp32, into another --out"
STEPS_BETWEEN_CHECKS = 20  # on a GPU or several ranks, where each check has to wait for them


@dataclass(frozen=True)
class TrainedBatch:
    """The queries and the loss of one training step on this rank."""

    step: int
    query_rows: list[int]
    loss: Tensor  # [], still on the device


class LossGuard:
    """Checks that the losses are numbers: after every step on one CPU process, else after every 20 steps.

    Args:
        folder: folder for `nan-step-N.json`, which has the ids of the queries in the batch of that step and in the batch before.
        faults: reports the fault.
        data: names the training queries.
    """

    def __init__(self, folder: Path, faults: FaultLog, data: RetrievalData):
        self.folder, self.faults, self.data = folder, faults, data
        self._unchecked: list[TrainedBatch] = []
        self._last_rows: list[int] = []  # query rows of the last batch whose loss was checked

    def add(self, trainer: Trainer, batch: TrainedBatch) -> None:
        """Appends a step, and checks the losses if it is time to."""
        self._unchecked.append(batch)
        is_cheap = batch.loss.device.type == "cpu" and trainer.world_size == 1
        if is_cheap or len(self._unchecked) >= STEPS_BETWEEN_CHECKS:
            self.check(trainer)

    def check(self, trainer: Trainer) -> None:
        """Stops every rank at the first step at which the loss of any rank is no number."""
        if not self._unchecked:
            return
        finite = torch.stack([torch.isfinite(batch.loss) for batch in self._unchecked]).long()  # [n]
        good_here = int(finite.cumprod(0).sum())  # number of steps before the first bad one on this rank
        good = len(finite) - max_over_ranks(len(finite) - good_here, finite.device)  # the same over all ranks
        if good < len(finite):
            bad = self._unchecked[good]
            value = "no number on another rank" if finite[good] else str(float(bad.loss))
            rows_before = self._unchecked[good - 1].query_rows if good else self._last_rows
            self.stop(trainer, bad.step, f"the loss is {value}", bad.query_rows, rows_before)
        self._last_rows = self._unchecked[-1].query_rows
        self._unchecked = []

    def stop_after_last_step(self, trainer: Trainer, reason: str) -> NoReturn:
        """Ends a training whose losses were all numbers, but whose model gives no numbers after the last step."""
        self.stop(trainer, trainer.global_step, reason, self._last_rows, [])

    def stop(self, trainer: Trainer, step: int, reason: str, query_rows: list[int], rows_before: list[int]) -> NoReturn:
        """Writes the ids of the queries in the batches of all ranks, and ends all ranks; the first rank reports the reason."""
        queries, queries_before = self._gather_ids(trainer, query_rows), self._gather_ids(trainer, rows_before)
        if not trainer.is_global_zero:
            leave_rank()  # without an error: a launcher that sees one kills the first rank before it reports the reason
        path = self.folder / f"nan-step-{step}.json"
        write_json(path, {"step": step, "queries": queries, "batch_before": queries_before})
        message = f"step {step}: {reason}; the queries of that batch, and of the one before, are in {path}"
        self.faults.report(trainer, Fault("loss", message))
        raise BadInput(f"{message}: {REMEDY}")

    def _gather_ids(self, trainer: Trainer, query_rows: list[int]) -> list[str]:
        rows = torch.tensor(query_rows, dtype=torch.int64, device=trainer.strategy.root_device)
        return read_query_ids(self.data, gather_rows(rows).tolist())
