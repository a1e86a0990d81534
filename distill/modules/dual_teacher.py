"""Fine-tunes a dual encoder on labels: a query's positive against its negatives and the other documents of the batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill.data.negative_sampling import PairRows
from distill.encoders.encoder import Encoder
from distill.encoders.pooling import PoolingMode
from distill.encoders.tokenizing import Role
from distill.encoders.towers import Towers, load_towers
from distill.files.ranks import gather_batch
from distill.losses import OneHot
from distill.losses.base import default_temperature
from distill.modules.documents import embed_documents
from distill.modules.start import describe_start, find_model_folder, load_checkpoint_weights
from distill.modules.teacher import TeacherModule
from distill.records import BadInput, Encoded, TensorRecord, Tokens, send
from distill.teachers.teacher import score_candidates
from distill.texts.chunks import Chunks, chunk_texts
from distill.texts.tokens import TokenArrays
from distill.vectors.search import search

TOP = 100  # documents retrieved for each dev query


@dataclass(frozen=True)
class DualBatch(TensorRecord):
    """B queries with K documents each, column 0 the positive."""

    queries: Chunks[Tokens]  # [B]
    documents: Chunks[Tokens]  # [B * K]
    query_rows: Tensor  # [B] int64
    document_rows: Tensor  # [B, K] int64; K = 0 in evaluation
    relevant_rows: Tensor | None  # [B, J] int64, documents judged relevant to each query, never its negatives; rows of -1 are padding


class DualTeacher(TeacherModule):
    """A dual encoder, trained with softmax cross-entropy over the documents of the whole batch, all ranks together.

    Args:
        start_from: what to train: a hub name, a sentence-transformers or plain transformers folder, or a checkpoint of such a run.
        towers: shared embeds queries and documents with the same weights; separate trains a copy for each.
        temperature: scores are divided by it; by default 0.05 for vectors of length 1, and 1 for others.
        recompute: whether each chunk of texts is computed again for its gradient, as in GradCache (arXiv 2101.06983). A batch of any size
            then needs only the memory of one chunk, at the cost of a second forward pass.
        pooling: only for a plain transformers folder, which does not record its pooling.
        normalize: whether vectors are scaled to length 1: for a plain transformers folder, or to false for one of sentence-transformers
            that would be scaled as it compares them by cosine.
        prompts: put before every text, e.g. {query: "query: ", document: "passage: "}; by default the folder's own.
        max_length: most tokens of a text, including special tokens; by default the folder's own.
        learning_rate: peak of AdamW's learning rate, after warm-up, before linear decay to 0.
        warmup: share of all steps in which the learning rate rises.
    """

    dev_measure = "search"
    next_verb = "encode --teacher"

    def __init__(
        self,
        start_from: str,
        towers: Literal["shared", "separate"] = "shared",
        temperature: float | None = None,
        recompute: bool = False,
        pooling: PoolingMode | None = None,
        normalize: bool | None = None,
        prompts: dict[str, str] | None = None,
        max_length: int | None = None,
        learning_rate: float = 1e-4,
        warmup: float = 0.05,
    ):
        super().__init__(learning_rate, warmup)
        self.start_from, self.towers_kind = start_from, towers
        self.overrides: dict[str, Any] = {"pooling": pooling, "normalize": normalize, "prompts": prompts}
        self.max_length = max_length
        self.loss = OneHot(temperature=temperature)
        self.recompute = recompute

    def prepare(self, start: Path | None = None) -> None:
        if hasattr(self, "towers"):
            return
        self.towers = load_towers(str(start)) if start else self._load_start_towers()
        normalizes = self.towers.query.normalizes and self.towers.document.normalizes
        self.loss.set_default_temperatures(default_temperature(has_cosine_scores=normalizes))
        self.origin = f"begins from {start}, its copy of {self.start_from}" if start else self._describe_origin()

    def _load_start_towers(self) -> Towers:
        """Loads the model of `start_from`, with one tower or two."""
        towers = load_towers(find_model_folder(self.start_from), **self.overrides, max_length=self.max_length)
        load_checkpoint_weights(towers, self.start_from, "towers.")
        if self.towers_kind == "separate" and towers.shared:
            towers = Towers(towers.query, copy.deepcopy(towers.query))
        elif self.towers_kind == "shared" and not towers.shared:
            raise BadInput(f"model.towers: {self.start_from} has two towers: set towers: separate, or start from one of its folders")
        return towers

    def _describe_origin(self) -> str:
        settings = self.towers.query.settings
        return describe_start(
            self.start_from,
            towers=(self.towers_kind, self.towers_kind),
            pooling=(self.overrides["pooling"], self.towers.query.pooling.mode),
            prompts=(self.overrides["prompts"], settings.prompts),
            max_length=(self.max_length, settings.max_length),
            temperature=(self.loss.temperature, self.loss.temperature_in_use),
        )

    @property
    def model(self) -> Towers:
        return self.towers

    def reader(self, role: Role) -> Encoder:
        return self.towers.tower(role)

    def training_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> DualBatch:
        return DualBatch(
            queries=chunk_texts(queries, rows.queries, tokens_per_chunk),
            documents=chunk_texts(documents, rows.documents.ravel(), tokens_per_chunk),
            query_rows=torch.from_numpy(rows.queries),
            document_rows=torch.from_numpy(rows.documents),
            relevant_rows=None if rows.relevant is None else torch.from_numpy(rows.relevant),
        )

    dev_batch = training_batch  # K = 0 there, as the corpus is embedded once for all queries

    def training_step(self, batch: DualBatch, _: int) -> Tensor:
        encoded = self.encode_batch(batch)
        with torch.autocast(self.device.type, enabled=False):  # the loss multiplies vectors too, and needs exact products
            encoded = gather_batch(encoded)
            loss = self.loss(encoded, encoded)
        self.log_losses(loss)
        return loss

    def encode_batch(self, batch: DualBatch) -> Encoded:
        """Embeds the batch's queries [B, D] and documents [B, K, D], with their gradient."""
        query = batch.queries.map(self._forward_of(self.towers.query)).float()
        document = batch.documents.map(self._forward_of(self.towers.document)).float()
        rows = send(batch.document_rows, query.device)  # [B, K]
        relevant = None if batch.relevant_rows is None else send(batch.relevant_rows, query.device)
        return score_candidates(query, document.unflatten(0, tuple(rows.shape)), rows, relevant)

    def _forward_of(self, tower: Encoder) -> Callable[[Tokens], Tensor]:
        if not self.recompute:
            return tower
        return lambda tokens: checkpoint(tower, tokens, use_reentrant=False)

    def validation_step(self, batch: DualBatch, _: int) -> Tensor:
        return batch.queries.map(self.towers.query).float()  # [B, D]

    def rank_documents(self, data: Any, query_rows: np.ndarray, vectors: Tensor) -> Tensor:
        """Returns the rows [Q, TOP] of the corpus nearest to query vectors [Q, D]; rows of -1 are padding."""
        corpus = data.dev_corpus  # [N] rows
        documents = embed_documents(self, self.towers.document, data.document_tokens, corpus)
        left_out = None if data.dev_own_documents is None else data.dev_own_documents[query_rows]
        places = search(vectors, documents, min(TOP, len(corpus)), left_out=left_out)[1].cpu().numpy()
        return torch.from_numpy(np.where(places >= 0, corpus[places], -1))

    def fingerprint(self) -> str:
        return self.towers.fingerprint()

    def save(self, folder: Path) -> None:
        """Writes the folder that `distill encode --teacher` reads."""
        self.towers.save_pretrained(folder)
