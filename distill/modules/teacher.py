"""The base class of the teachers that `distill teach` trains on labelled queries and documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill.data.judged_pairs import DevMeasure, PairsData
from distill.data.negative_sampling import PairRows
from distill.encoders.attention_masks import spare_looks_at_masks
from distill.encoders.cross import CrossEncoder
from distill.encoders.encoder import Encoder
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import Role
from distill.modules.optimizer import choose_fused, make_adamw
from distill.modules.schedule import ScheduledModule
from distill.records import BadInput
from distill.texts.tokens import TokenArrays


class TeacherModule(ScheduledModule):
    """A teacher to train; one subclass for each architecture."""

    dev_measure: DevMeasure
    best_by: ClassVar[str] = "ndcg@10"  # the dev metric by which the best epoch is chosen
    next_verb: ClassVar[str]  # the command that reads the teacher's folder
    start_from: str
    origin: str  # describes in one line where weights and settings come from

    def prepare(self, start: Path | None = None) -> None:
        """Loads the model to train, from the copy `start` in the run folder if there is one."""
        raise NotImplementedError

    @property
    def model(self) -> nn.Module:
        """The module with all trained parameters."""
        raise NotImplementedError

    def reader(self, role: Role) -> Encoder | CrossEncoder | Seq2SeqModel:
        """Returns the model that tokenizes the texts of a role."""
        raise NotImplementedError

    def training_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> Any:
        """Makes a batch for `training_step`; column 0 of the documents is the positive."""
        raise NotImplementedError

    def dev_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> Any:
        """Makes a batch for `validation_step`; K is 0 unless documents are re-ranked. Rows of -1 are padding."""
        raise NotImplementedError

    def rank_documents(self, data: Any, query_rows: np.ndarray, outputs: Tensor) -> Tensor:
        """Ranks documents for dev queries.

        Args:
            data: the `PairsData` of the training.
            query_rows: [Q] rows of the dev queries.
            outputs: [Q, ...] the outputs of `validation_step` for these queries.

        Returns:
            [Q, k] rows of the corpus, best first.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Returns 16 hex digits that depend on weights, tokenizer and settings."""
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
        if self.trainer.strategy.root_device.type == "cuda":
            spare_looks_at_masks()
        else:
            for module in self.model.modules():
                if isinstance(module, PreTrainedModel):
                    # on a CPU the bf16 backward pass of the fused kernel is many times slower than plain matrix products
                    module.set_attn_implementation("eager")

    def make_optimizer(self) -> torch.optim.Optimizer:
        return make_adamw(self.model, self.learning_rate, choose_fused(self.trainer))
