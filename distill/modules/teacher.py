"""What `distill teach` trains: a model that reads labelled queries and documents, and ranks documents on dev."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill.data.judged_pairs import DevMeasure, PairsData
from distill.data.negative_sampling import PairRows
from distill.encoders.cross import CrossEncoder
from distill.encoders.encoder import Encoder
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import Role
from distill.modules.optimizer import make_adamw
from distill.modules.schedule import ScheduledModule
from distill.records import BadInput
from distill.texts.tokens import TokenArrays


class TeacherModule(ScheduledModule):
    """A teacher to train; one subclass for each architecture."""

    dev_measure: DevMeasure
    best_by: ClassVar[str] = "ndcg@10"  # the dev metric that is highest in the best epoch
    next_verb: ClassVar[str]  # the verb that reads the teacher's folder
    start_from: str
    origin: str  # one line on where weights and settings come from

    def prepare(self, start: Path | None = None) -> None:
        """Loads the model to train; `start` is the copy of it that a run made when it began."""
        raise NotImplementedError

    @property
    def model(self) -> nn.Module:
        """The module of everything that learns."""
        raise NotImplementedError

    def reader(self, role: Role) -> Encoder | CrossEncoder | Seq2SeqModel:
        """Returns the model that cuts the texts of a role into tokens."""
        raise NotImplementedError

    def training_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> Any:
        """Makes what `training_step` takes; column 0 of the documents is the positive."""
        raise NotImplementedError

    def dev_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> Any:
        """Makes what `validation_step` takes; the documents are those to re-rank, or K = 0. Rows of -1 are padding."""
        raise NotImplementedError

    def rank_documents(self, data: Any, query_rows: np.ndarray, outputs: Tensor) -> Tensor:
        """Ranks documents for dev queries.

        Args:
            data: the `PairsData` that the teacher is trained with.
            query_rows: [Q] of the dev queries.
            outputs: what `validation_step` returned for them, row after row.

        Returns:
            [Q, k] rows of the corpus, best first.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Returns 16 hex digits over weights, tokenizer and settings."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Writes the model's folder."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, PairsData):
            raise BadInput(f"{type(self).__name__}: learns from PairsData: call Trainer.fit(teacher, PairsData(...))")
        self.prepare()
        data.connect(self)
        # the model stays in evaluation mode: without dropout a step depends on nothing but its batch
        if self.trainer.strategy.root_device.type == "cpu":
            for module in self.model.modules():
                if isinstance(module, PreTrainedModel):
                    # the fused kernel's bf16 backward is many times slower there than plain matrix products
                    module.set_attn_implementation("eager")

    def make_optimizer(self) -> torch.optim.Optimizer:
        return make_adamw(self.model, self.learning_rate, is_clipped=bool(self.trainer.gradient_clip_val))
