"""Logs learning rate, gradient norm, speed, memory, and the load of processor and GPU during training."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from distill.records import Batch


class Meter(Callback):
    """Logs, every `log_every_n_steps` of the trainer, `optim/learning_rate`, `optim/gradient_norm` and `system/...`.

    `system/...` are queries and tokens per second since the last logged step, peak memory in GB, and the load of processor and GPU in
    percent. These values differ from run to run.
    """

    def __init__(self) -> None:
        self._start_interval()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start_interval()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if (trainer.global_step + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        values = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
        norms = [value.detach().float().norm() for value in values]
        # as tensors of the host: Lightning would send plain numbers to the GPU, and wait for each on their way back
        pl_module.log("optim/gradient_norm", torch.stack(norms).norm().cpu())
        pl_module.log("optim/learning_rate", torch.tensor(float(optimizer.param_groups[0]["lr"])))  # before the schedule changes it

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._queries += len(batch.query_rows) * trainer.world_size
        self._tokens += batch.queries.input_ids.numel() * trainer.world_size  # includes padding, which is little
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        values = self._measure_interval() | measure_gpu(pl_module.device)
        pl_module.log_dict({f"system/{name}": torch.tensor(value) for name, value in values.items()})
        self._start_interval()

    def _start_interval(self) -> None:
        self._queries = self._tokens = 0
        self._wall_start, self._processor_start = time.perf_counter(), time.process_time()

    def _measure_interval(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self._wall_start, 1e-9)
        processor_seconds = time.process_time() - self._processor_start
        return {
            "queries_per_second": self._queries / seconds,
            "tokens_per_second": self._tokens / seconds,
            "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
            "cpu_percent": 100 * processor_seconds / seconds,
        }


def measure_gpu(device: torch.device) -> dict[str, float]:
    """Measures peak memory in GB and utilisation in percent of a GPU; returns nothing for other devices."""
    if device.type != "cuda":
        return {}
    values = {"gpu_memory_gb": torch.cuda.max_memory_allocated(device) / (1 << 30)}
    with suppress(Exception):  # without the driver's library or the right to use it this fails, which must not end a training
        values["gpu_percent"] = float(torch.cuda.utilization(device))
    return values
