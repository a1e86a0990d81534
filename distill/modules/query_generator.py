"""Fine-tunes a sequence-to-sequence model to write the query that a document answers (doc2query, arXiv 1904.08375)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric

from distill.data.negative_sampling import PairRows
from distill.encoders.seq2seq import Seq2SeqModel
from distill.encoders.tokenizing import Role
from distill.files.ranks import sum_over_ranks, world_size
from distill.modules.start import describe_start, find_model_folder, load_checkpoint_weights
from distill.modules.teacher import TeacherModule
from distill.records import TensorRecord, Tokens
from distill.texts.tokens import TokenArrays


@dataclass(frozen=True)
class WritingBatch(TensorRecord):
    """B documents to read and the queries to write."""

    documents: Tokens  # [B, L]
    queries: Tokens  # [B, M]


class QueryGenerator(TeacherModule):
    """A BART or T5 that learns from judged pairs to write a query for a document, by maximising the likelihood of the query's tokens.

    Args:
        start_from: what to train: a hub name, a folder, or a checkpoint of such a run.
        prefix: text put before every document, e.g. the prefix that a T5 was trained with; by default that of start_from.
        longest_text: most tokens of a document; by default that of start_from.
        longest_query: most tokens of a query; by default that of start_from.
        learning_rate: peak of AdamW's learning rate, after warm-up, before linear decay to 0.
        warmup: share of all steps in which the learning rate rises.
    """

    dev_measure = "likelihood"
    best_by = "log_likelihood"
    next_verb = "generate --generator Seq2Seq --generator.model"

    def __init__(
        self,
        start_from: str,
        prefix: str | None = None,
        longest_text: int | None = None,
        longest_query: int | None = None,
        learning_rate: float = 3e-4,
        warmup: float = 0.05,
    ):
        super().__init__(learning_rate, warmup)
        self.start_from = start_from
        self.overrides: dict[str, Any] = {"prefix": prefix, "longest_text": longest_text, "longest_query": longest_query}
        self.likelihood = MeanMetric()

    def prepare(self, start: Path | None = None) -> None:
        if hasattr(self, "writer"):
            return
        if start:
            self.origin = f"begins from {start}, its copy of {self.start_from}"
            self.writer = Seq2SeqModel.load(str(start))
            self.network = self.writer.model
            return
        self.writer = Seq2SeqModel.load(str(find_model_folder(self.start_from)), **self.overrides)
        self.network = self.writer.model  # a submodule, so that its weights are trained and saved
        load_checkpoint_weights(self.network, self.start_from, "network.")
        settings = vars(self.writer.settings)
        origins = {key: (override, repr(settings[key])) for key, override in self.overrides.items()}
        self.origin = describe_start(self.start_from, **origins)

    @property
    def model(self) -> nn.Module:
        return self.network

    def reader(self, role: Role) -> Seq2SeqModel:
        return self.writer

    def training_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> WritingBatch:
        return WritingBatch(documents.batch(rows.documents[:, 0]), queries.batch(rows.queries))

    dev_batch = training_batch

    def training_step(self, batch: WritingBatch, _: int) -> Tensor:
        # divided by the mean token count of all ranks: gradients are averaged over ranks, so every token then counts the same
        tokens = sum_over_ranks(batch.queries.attention_mask.sum()).float() / world_size()
        loss = -self.writer.log_likelihoods(batch.documents, batch.queries).sum() / tokens
        self.log_losses(loss)
        return loss

    def validation_step(self, batch: WritingBatch, _: int) -> None:
        """Measures the mean log-likelihood of a token over the queries of all ranks."""
        counts = batch.queries.attention_mask.sum(1)
        self.likelihood.update(self.writer.log_likelihoods(batch.documents, batch.queries) / counts, counts)
        self.log("dev/log_likelihood", self.likelihood)

    def fingerprint(self) -> str:
        return self.writer.fingerprint()

    def save(self, folder: Path) -> None:
        self.writer.save(folder)
