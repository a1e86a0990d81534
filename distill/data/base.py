"""The base class of the data modules: a training split, a dev split, and a loader for each; a checkpoint stores the loader's position."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule, Trainer

from distill.data.loaders import Collate, EvaluationLoader, TrainingLoader
from distill.data.prefetch import BATCHES_AHEAD
from distill.files.configs import Configurable
from distill.files.ranks import is_leader
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.matching_ids import check_judged_documents
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource

HIGHEST_SEED = 2**32 - 1  # that NumPy takes


def check_seed(seed: int) -> int:
    """Returns a seed as it is; refuses what is none."""
    if isinstance(seed, bool) or not 0 <= seed <= HIGHEST_SEED:
        raise BadInput(f"seed: {seed}: set a whole number from 0 to {HIGHEST_SEED}")
    return seed


class SplitDataModule(Configurable, LightningDataModule):
    """Trains on one split and evaluates on another.

    Args:
        train: split to train on, `train+more` for several.
        dev: split to evaluate on.
        batch_size: examples per rank and step.
        seed: seed of the order of the examples.
    """

    source: TextSource

    def __init__(self, train: str, dev: str, batch_size: int, seed: int):
        super().__init__()
        self.train_split, self.dev_split = train, dev
        self.batch_size, self.seed = batch_size, check_seed(seed)
        self._is_set_up = False
        self._loader: TrainingLoader | None = None
        self._loader_state: dict[str, Any] | None = None

    def train_parts(self) -> list[str]:
        """Returns the names of the training splits; refuses one that is a dev split too."""
        parts = self.train_split.split("+")
        shared = sorted(set(parts) & set(self.dev_split.split("+")))
        if shared:
            raise BadInput(f"data.dev: {', '.join(shared)} is trained on too: evaluate on another split")
        return parts

    def open_qrels(self, split: str, corpus: Ids) -> Qrels | None:
        """Returns the judgments of a split, None where it has none; refuses judgments of none of the documents.

        Args:
            split: name of the split.
            corpus: ids of the documents.
        """
        if is_leader():
            check_judged_documents(self.source, split, corpus)
        return self.source.qrels(split)

    def make_training_loader(self, collate: Collate, lengths: np.ndarray, **options: Any) -> TrainingLoader:
        """Makes the training loader of this rank, which starts at the position of the checkpoint.

        Args:
            collate: makes a batch from rows.
            lengths: [N] number of tokens of every row.
            options: further arguments of `TrainingLoader`.
        """
        trainer = self._require_trainer()
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        loader = TrainingLoader(
            collate,
            lengths,
            self.batch_size,
            self.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            batches_done=lambda: progress.current.processed,
            **self._prefetching(trainer.strategy.root_device),
            **options,
        )
        if not len(loader):
            count = f"{len(lengths)} training {loader.examples} are too few for {trainer.world_size} ranks"
            raise BadInput(f"{count}{self.describe_removed()}: add some or use fewer")
        if self._loader_state:
            loader.load_state_dict(self._loader_state)
        self._loader = loader
        return loader

    def _prefetching(self, device: torch.device) -> dict[str, Any]:
        """Returns the arguments of a loader of batches for `device`; on a CPU a thread would take time from the training."""
        return {"batches_ahead": BATCHES_AHEAD, "gpu": device} if device.type == "cuda" else {}

    def describe_removed(self) -> str:
        """Says for messages how many training queries are left out because another split asks them; "" where none is."""
        removed = getattr(self, "removed_from_train", 0)
        return f", as {removed} more of {self.train_split} are left out, which another split asks too" if removed else ""

    def make_dev_loader(self, collate: Collate, lengths: np.ndarray, batch_size: int) -> EvaluationLoader:
        """Makes the dev loader of this rank; over all ranks every query comes once."""
        trainer = self._require_trainer()
        if len(lengths) < trainer.world_size:
            raise BadInput(f"data.dev: {len(lengths)} queries are too few for {trainer.world_size} ranks: use fewer ranks")
        return EvaluationLoader(collate, lengths, batch_size, trainer.global_rank, trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # the trainer restores a loader after making the schedule, but the schedule needs the number of steps left in our loader
        self._loader_state = state_dict

    def _require_trainer(self) -> Trainer:
        if self.trainer is None:
            raise BadInput(f"{type(self).__name__}: a trainer makes its loaders, call Trainer.fit: a rank's batches depend on the ranks")
        return self.trainer
