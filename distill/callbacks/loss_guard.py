"""Stops a training whose loss is no number, on all ranks at the same step, and writes down what it had just read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from distill.callbacks.diagnosis import Fault, read_query_ids
from distill.callbacks.fault_log import FaultLog
from distill.data.datamodule import RetrievalData
from distill.files.atomic import write_json
from distill.files.ranks import gather_rows, max_over_ranks
from distill.records import BadInput

STEPS_UNCHECKED = 20  # where every look at a loss waits for a GPU or for other ranks


@dataclass(frozen=True)
class TrainedBatch:
    """A training step that was taken on this rank."""

    step: int
    query_rows: list[int]
    loss: Tensor  # [], still on the device


class LossGuard:
    """Looks at the losses of recent steps: at each on one CPU process, else at 20 together.

    Args:
        folder: where `nan-step-N.json` goes, with the ids of the queries in the batch of that step and in the one before.
        faults: where the fault is reported.
        data: whose training queries are named.
    """

    def __init__(self, folder: Path, faults: FaultLog, data: RetrievalData):
        self.folder, self.faults, self.data = folder, faults, data
        self._unchecked: list[TrainedBatch] = []
        self._last_rows: list[int] = []  # of the last batch whose loss was looked at

    def add(self, trainer: Trainer, batch: TrainedBatch) -> None:
        """Appends a step, and looks at the losses when it is time to."""
        self._unchecked.append(batch)
        is_cheap = batch.loss.device.type == "cpu" and trainer.world_size == 1
        if is_cheap or len(self._unchecked) >= STEPS_UNCHECKED:
            self.check(trainer)

    def check(self, trainer: Trainer) -> None:
        """Stops every rank at the first step whose loss is no number on any of them."""
        if not self._unchecked:
            return
        finite = torch.stack([torch.isfinite(batch.loss) for batch in self._unchecked]).long()  # [n]
        good_here = int(finite.cumprod(0).sum())  # steps before the first bad one
        good = len(finite) - max_over_ranks(len(finite) - good_here, finite.device)
        rows = [self._last_rows, *(batch.query_rows for batch in self._unchecked)]
        if good < len(finite):
            bad = self._unchecked[good]
            value = "no number on another rank" if finite[good] else str(float(bad.loss))
            self.stop(trainer, bad.step, f"the loss is {value}", bad.query_rows, rows[good])
        self._last_rows, self._unchecked = rows[-1], []

    def stop_after_last_step(self, trainer: Trainer, reason: str) -> NoReturn:
        """Ends the training where all losses were numbers, but what the last step left is not."""
        self.stop(trainer, trainer.global_step, reason, self._last_rows, [])

    def stop(self, trainer: Trainer, step: int, reason: str, query_rows: list[int], rows_before: list[int]) -> NoReturn:
        """Writes the ids of the queries in the batches of all ranks; one rank tells the reason, and all end."""
        queries, queries_before = self._gather_ids(trainer, query_rows), self._gather_ids(trainer, rows_before)
        if not trainer.is_global_zero:
            raise SystemExit(0)  # a launcher that sees a rank fail kills the others, and the first has yet to say why
        path = self.folder / f"nan-step-{step}.json"
        write_json(path, {"step": step, "queries": queries, "batch_before": queries_before})
        message = f"step {step}: {reason}; the queries of that batch, and of the one before, are in {path}"
        self.faults.report(trainer, Fault("loss", message))
        raise BadInput(f"{message}: lower model.learning_rate, clip gradients or train in fp32, into another --out")

    def _gather_ids(self, trainer: Trainer, query_rows: list[int]) -> list[str]:
        rows = torch.tensor(query_rows, dtype=torch.int64, device=trainer.strategy.root_device)
        return read_query_ids(self.data, gather_rows(rows).tolist())
