"""Trains a cross encoder to score a query's positive above its negatives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.data.negative_sampling import PairRows
from distill.encoders.cross import CrossEncoder, Head, unpack_scores_and_vectors
from distill.encoders.cross_folder import load_cross_encoder, new_cross_encoder
from distill.encoders.pair_tokens import PairTokens
from distill.encoders.tokenizing import Role
from distill.modules.start import describe_start, find_model_folder, is_checkpoint, load_checkpoint_weights
from distill.modules.teacher import TeacherModule
from distill.records import BadInput, TensorRecord, send
from distill.texts.chunks import Chunks, chunk_pairs
from distill.texts.tokens import TokenArrays

DEFAULT_REGULARISER = 1.0  # weight of the dual-pooling regulariser


@dataclass(frozen=True)
class CrossBatch(TensorRecord):
    """B queries with K documents each, column 0 the positive, as B * K pairs."""

    pairs: Chunks[PairTokens]  # [B * K]
    alone: Chunks[PairTokens] | None  # [B + B * K] each query without a document, then each document without a query
    query_rows: Tensor  # [B] int64
    document_rows: Tensor  # [B, K] int64; rows of -1 are padding, where a query has fewer documents to re-rank


class CrossTeacher(TeacherModule):
    """A cross encoder, trained with softmax cross-entropy over a query's positive and its negatives.

    Args:
        start_from: what to train: a hub name, an encoder's, cross encoder's or plain transformers folder, or a checkpoint of such a run.
        head: dual_pooling pools the tokens of the query and of the document into two vectors and scores the pair by their cosine; the
            vectors are targets for a student's towers. cls scores the first token, as most cross encoders do.
        max_length: most tokens of a pair; longer documents are cut. By default that of start_from.
        temperature: only for dual_pooling: the cosine is divided by it; 0.05 for a new head.
        regulariser: only for dual_pooling: weight of a loss that keeps the vector of a text in a pair close to the vector of the text
            alone; 1 by default.
        learning_rate: peak of AdamW's learning rate, after warm-up, before linear decay to 0.
        warmup: share of all steps in which the learning rate rises.
    """

    dev_measure = "rerank"
    next_verb = "rerank --teacher"

    def __init__(
        self,
        start_from: str,
        head: Head,
        max_length: int | None = None,
        temperature: float | None = None,
        regulariser: float | None = None,
        learning_rate: float = 2e-4,
        warmup: float = 0.05,
    ):
        super().__init__(learning_rate, warmup)
        if head == "cls" and (regulariser or temperature is not None):
            raise BadInput("model.head: cls has neither a regulariser nor a temperature: leave them out, or set head: dual_pooling")
        if regulariser is not None and regulariser < 0:
            raise BadInput(f"model.regulariser: {regulariser}: a weight is 0 or more")
        self.start_from, self.head = start_from, head
        # None keeps the setting of start_from
        self.overrides: dict[str, Any] = {"max_length": max_length, "temperature": temperature}
        default_regulariser = DEFAULT_REGULARISER if head == "dual_pooling" else 0.0
        self.regulariser = default_regulariser if regulariser is None else regulariser

    def prepare(self, start: Path | None = None) -> None:
        if hasattr(self, "encoder"):
            return
        if start:
            self.origin = f"begins from {start}, its copy of {self.start_from}"
            self.encoder = load_cross_encoder(str(start))
            return
        folder = find_model_folder(self.start_from)
        self.encoder = new_cross_encoder(folder, self.head, **self.overrides, new_head=not is_checkpoint(self.start_from))
        load_checkpoint_weights(self.encoder, self.start_from, "encoder.")
        settings: dict[str, Any] = {"max_length": (self.overrides["max_length"], self.encoder.settings.max_length)}
        if self.head == "dual_pooling":
            settings["temperature"] = (self.overrides["temperature"], self.encoder.settings.temperature)
        self.origin = describe_start(self.start_from, **settings)

    @property
    def model(self) -> CrossEncoder:
        return self.encoder

    def reader(self, role: Role) -> CrossEncoder:
        return self.encoder

    def training_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> CrossBatch:
        query_ids = [queries.ids(row) for row in rows.queries]
        document_ids = [documents.ids(row) for row in rows.documents.ravel()]
        candidates = rows.documents.shape[1]
        query_of_pair = [ids for ids in query_ids for _ in range(candidates)]
        alone = None
        if self.regulariser:
            no_tokens = np.empty(0, np.int32)
            left = query_ids + [no_tokens] * len(document_ids)
            right = [no_tokens] * len(query_ids) + document_ids
            alone = chunk_pairs(self.encoder, left, right, tokens_per_chunk)
        pairs = chunk_pairs(self.encoder, query_of_pair, document_ids, tokens_per_chunk)
        return CrossBatch(pairs, alone, torch.from_numpy(rows.queries), torch.from_numpy(rows.documents))

    def dev_batch(self, queries: TokenArrays, documents: TokenArrays, rows: PairRows, tokens_per_chunk: int) -> CrossBatch:
        """Pairs dev queries with the documents to re-rank. For padding, row -1, it reads document 0, whose score is ignored."""
        candidates = rows.documents.shape[1]
        query_ids = [queries.ids(row) for row in rows.queries for _ in range(candidates)]
        document_ids = [documents.ids(max(row, 0)) for row in rows.documents.ravel()]
        pairs = chunk_pairs(self.encoder, query_ids, document_ids, tokens_per_chunk)
        return CrossBatch(pairs, None, torch.from_numpy(rows.queries), torch.from_numpy(rows.documents))

    def training_step(self, batch: CrossBatch, _: int) -> Tensor:
        scores, query, document = unpack_scores_and_vectors(batch.pairs.map(self._read_pairs))  # [B * K], [B * K, D], [B * K, D]
        terms = {"one_hot": self.one_hot(scores.view(batch.document_rows.shape))}
        loss = terms["one_hot"]
        if batch.alone is not None:
            _, query_alone, document_alone = unpack_scores_and_vectors(batch.alone.map(self._read_pairs))
            count, candidates = batch.document_rows.shape
            query_alone = query_alone[:count].repeat_interleave(candidates, 0)  # [B * K, D]
            terms["regulariser"] = dual_pooling_regulariser(query, document, query_alone, document_alone[count:])
            loss = loss + self.regulariser * terms["regulariser"]
        self.log_losses(loss, terms)
        return loss

    def one_hot(self, scores: Tensor) -> Tensor:
        """Returns the softmax cross-entropy of scores [B, K] whose column 0 is the positive."""
        return F.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64, device=scores.device))

    def validation_step(self, batch: CrossBatch, _: int) -> Tensor:
        scores = batch.pairs.map(lambda pairs: self.encoder(pairs).scores).view(batch.document_rows.shape)
        return scores.masked_fill(send(batch.document_rows, scores.device) < 0, -torch.inf)  # [B, K]

    def rank_documents(self, data: Any, query_rows: np.ndarray, scores: Tensor) -> Tensor:
        """Returns the rows [Q, K] of the first stage's documents of each query, re-ranked by `scores` [Q, K]."""
        order = scores.argsort(dim=1, descending=True, stable=True).cpu()
        return torch.from_numpy(data.dev_candidates[query_rows]).gather(1, order)

    def fingerprint(self) -> str:
        return self.encoder.fingerprint()

    def save(self, folder: Path) -> None:
        self.encoder.save_pretrained(folder)

    def _read_pairs(self, pairs: PairTokens) -> Tensor:
        """Returns the scores and vectors of P pairs as [P, 1 + 2 D]."""
        return self.encoder(pairs).pack()


def dual_pooling_regulariser(query: Tensor, document: Tensor, query_alone: Tensor, document_alone: Tensor) -> Tensor:
    """Returns the mean distance between the vectors [P, D] of texts in pairs and of the same texts alone.

    The distance of a pair is 1 - cosine of its query's vectors plus 1 - cosine of its document's vectors; all vectors have length 1. A
    small distance means that a vector depends little on the other text of the pair, which a student does not read.

    >>> axes = torch.eye(2)
    >>> dual_pooling_regulariser(axes, axes, axes, -axes)
    tensor(2.)
    """
    return (2 - (query * query_alone).sum(-1) - (document * document_alone).sum(-1)).mean()
