"""What every data module has: a split to train on, one to measure on, loaders of both that a checkpoint knows the place of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pytorch_lightning import LightningDataModule, Trainer

from distill.data.loaders import EvaluationLoader, TrainingLoader
from distill.records import BadInput


class SplitDataModule(LightningDataModule):
    """`train_split`, `dev_split`, `batch_size` and `seed` are set by whoever derives from it."""

    train_split: str
    dev_split: str
    batch_size: int
    seed: int
    _is_set_up = False
    _loader: TrainingLoader | None = None
    _loader_state: dict[str, Any] | None = None

    def parts(self) -> list[str]:
        """Names of the splits that are trained on, none of which may be evaluated on."""
        parts = self.train_split.split("+")
        if shared := set(parts) & set(self.dev_split.split("+")):
            raise BadInput(f"data.dev: {', '.join(sorted(shared))} is trained on too: evaluate on another split")
        return parts

    def training_loader(self, collate: Callable[[np.ndarray], Any], lengths: np.ndarray, **more: Any) -> TrainingLoader:
        """Batches of rows of near-equal `lengths` [N]; goes on where a checkpoint stood."""
        trainer = self._fitting
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        place = self.batch_size, self.seed, trainer.global_rank, trainer.world_size
        self._loader = TrainingLoader(collate, lengths, *place, batches_done=lambda: progress.current.processed, **more)
        if self._loader_state:
            self._loader.load_state_dict(self._loader_state)
        if not len(self._loader):
            raise BadInput(f"{len(lengths)} training {self._loader.what} are too few for {trainer.world_size} ranks: add some or use fewer")
        return self._loader

    def dev_loader(self, collate: Callable[[np.ndarray], Any], lengths: np.ndarray, batch_size: int) -> EvaluationLoader:
        """Every dev query once, over all ranks."""
        trainer = self._fitting
        if len(lengths) < trainer.world_size:
            raise BadInput(f"data.dev: {len(lengths)} queries are too few for {trainer.world_size} ranks: use fewer ranks")
        return EvaluationLoader(collate, lengths, batch_size, trainer.global_rank, trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # the trainer restores a loader too, but only one that nobody asked for its length before, as the optimizer does
        self._loader_state = state_dict

    @property
    def _fitting(self) -> Trainer:
        assert self.trainer is not None, "loaders are made by a trainer"
        return self.trainer
