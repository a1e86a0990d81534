"""Notes the host's waits at the end of each training step: in a file of its own, so that a configuration can name it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pytorch_lightning import Callback
from simulated_gpu import ACTIVE


class StepWaits(Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        gpu = ACTIVE[-1]
        gpu.waits_after_steps.append(Counter(gpu.waits))
