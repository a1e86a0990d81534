"""How many epochs fit into the minutes that were given, by the rate at which this machine trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything

from distill.callbacks.retrieval_eval import RetrievalEval
from distill.data.datamodule import RetrievalData
from distill.files.device import best_device, fp32_products
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.training.settings import TRAINER_DEFAULTS, default_precision, quiet_lightning

STEPS_TIMED, STEPS_OF_WARM_UP = 40, 10
MOST_TEXTS = 4_000_000  # read in a training: no student was seen to profit from half as many
MOST_EPOCHS = 40  # from there on a student hardly improves by the same texts
FEWEST_STEPS, STEPS_AT_ONCE = 40, 20  # of an epoch that does not fit whole; a multiple of the latter
ROUND_EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40)  # so that a little noise in the rate changes nothing


@dataclass(frozen=True)
class Rate:
    """The seconds that one epoch takes: its steps, and the evaluation at its end."""

    texts: int  # read in an epoch
    steps: int
    training: float
    evaluation: float

    @property
    def epoch(self) -> float:
        return self.training + self.evaluation

    @property
    def step(self) -> float:
        return self.training / self.steps

    @property
    def shortest(self) -> float:
        """The minutes that a training takes at least."""
        return (min(FEWEST_STEPS, self.steps) * self.step + self.evaluation) / 60


def choose_length(rate: Rate, minutes: float, most_epochs: int = MOST_EPOCHS) -> tuple[int, int]:
    """Chooses how many epochs fit into the time, but no more than a student profits from, and how many steps each of them has.

    Where no whole epoch fits, there is one with as many steps as fit.

    >>> rate = Rate(texts=20_000, steps=313, training=25.0, evaluation=5.0)
    >>> choose_length(rate, minutes=5), choose_length(rate, minutes=0.3)
    ((10, 313), (1, 160))

    Raises:
        BadInput: the time is too short for any training.
    """
    fitting = math.floor(60 * minutes / rate.epoch)
    if fitting:
        most = min(fitting, most_epochs, max(1, MOST_TEXTS // rate.texts))
        return max(count for count in ROUND_EPOCHS if count <= most), rate.steps
    steps = math.floor((60 * minutes - rate.evaluation) / rate.step / STEPS_AT_ONCE) * STEPS_AT_ONCE
    if steps < min(FEWEST_STEPS, rate.steps):
        refuse_short_time(minutes, rate.shortest)
    return 1, steps


def refuse_short_time(minutes: float, needed: float) -> NoReturn:
    """Refuses the minutes that were given, where at least `needed` ones have to be."""
    least = f"{math.ceil(10 * needed) / 10:g}"
    fix = f"the same command with --minutes {least} goes on from here"
    raise BadInput(f"minutes: {minutes:g}: too short, even a little training takes {least} minutes: {fix}")


def measure_rate(make_module: Callable[[], StudentModule], make_data: Callable[[], RetrievalData], steps: int | None = None) -> Rate:
    """Trains a student that is thrown away for some steps, and evaluates it once."""
    quiet_lightning()
    data, watch = make_data(), _Watch()
    seed_everything(data.seed, verbose=False)
    options: dict[str, Any] = {
        **TRAINER_DEFAULTS,
        "enable_progress_bar": False,
        "max_epochs": 1,
        "limit_train_batches": steps or STEPS_TIMED,
    }
    device = "gpu" if best_device().type == "cuda" else "cpu"
    trainer = Trainer(
        **options,
        accelerator=device,
        devices=1,
        precision=default_precision(device),  # type: ignore[arg-type]
        callbacks=[RetrievalEval(), watch],
        logger=False,
        enable_checkpointing=False,
    )
    with fp32_products(trainer.strategy.root_device):
        trainer.fit(make_module(), data)
    seconds = estimate_seconds(np.diff(watch.times), watch.longest_texts)
    return Rate(watch.steps * data.batch_size, watch.steps, seconds, watch.evaluation_seconds)


def estimate_seconds(step_seconds: np.ndarray, longest_texts: np.ndarray) -> float:
    """Estimates how long an epoch takes from its first steps, by the lengths of all its batches.

    Batches are of texts of similar length, and so unlike one another that a mean over the first of them says little. A step takes some
    time, some for each token of its longest text, and some, for the attention, for each pair of them.

    Args:
        step_seconds: [n] seconds of the first steps.
        longest_texts: [steps] tokens of the longest text of each batch of the epoch, in their order.

    >>> longest_texts = np.array([8, 100, 8, 100, 60, 8])
    >>> float(estimate_seconds(0.1 + 0.01 * longest_texts[:4], longest_texts).round(3))
    3.44
    """
    from scipy.optimize import nnls

    first = min(STEPS_OF_WARM_UP, len(step_seconds) // 2)
    seconds = step_seconds[first:]
    parts = np.stack([longest_texts**power for power in (0, 1, 2)], axis=1)  # [steps, 3]
    measured = parts[first : len(step_seconds)]
    factors = nnls(measured / seconds[:, None], np.ones(len(seconds)))[0]  # [3], by relative errors: long texts would count for too much
    too_little = seconds.sum() / (measured @ factors).sum()  # noise makes such a fit too low
    return (parts @ factors).sum() * too_little


class _Watch(Callback):
    """Times the steps of a training, and its evaluation."""

    def __init__(self) -> None:
        self.times: list[float] = []  # at the start, and at the end of each step
        self._start = self.evaluation_seconds = 0.0
        self.longest_texts = np.empty(0)

    @property
    def steps(self) -> int:
        """The number of steps of a whole epoch."""
        return len(self.longest_texts)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.longest_texts = trainer.train_dataloader.longest_texts()  # type: ignore[union-attr]
        self._note_time()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._note_time()

    def _note_time(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # else the time of a step is that of some steps before
        self.times.append(time.perf_counter())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.evaluation_seconds = time.perf_counter() - self._start
