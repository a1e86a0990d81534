"""Cross encoders: one transformer reads a query and a document together.

Two heads. Dual pooling (EmbedDistill, section 4.2) pools the query's tokens and the document's apart; the inner product of the two
vectors is the score, and the vectors are targets for the towers of a dual encoder. The ordinary head reads [CLS] and has scores only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.encoder import Role, architecture, tokenizer_core, weights_digest
from distill.encoders.pair_tokens import PairTemplate, PairTokens
from distill.encoders.pooling import mean_pool
from distill.files.fingerprints import fingerprint
from distill.records import BadInput

Head = Literal["dual_pooling", "cls"]


@dataclass(frozen=True)
class CrossSettings:
    """How a pair becomes a score, beyond the weights."""

    max_length: int  # tokens of a pair, special tokens included; the document is cut to fit
    temperature: float = 0.05  # the cosine of two pooled vectors is divided by it; a [CLS] head has none


@dataclass(frozen=True)
class ScoredPairs:
    """What a cross encoder says about P pairs."""

    scores: Tensor  # [P] float32
    query: Tensor  # [P, D] float32, of length 1, pooled from the query's tokens; D = 0 from a [CLS] head
    document: Tensor  # [P, D] float32, of length 1, pooled from the document's tokens

    def pack(self) -> Tensor:
        """[P, 1 + 2 D]: score, query vector, document vector."""
        return torch.cat([self.scores[:, None], self.query, self.document], dim=1)


def unpack_scores_and_vectors(stacked: Any) -> tuple[Any, Any, Any]:
    """Scores [...], query [..., D] and document [..., D] vectors out of [..., 1 + 2 D]."""
    width = stacked.shape[-1] // 2
    return stacked[..., 0], stacked[..., 1 : 1 + width], stacked[..., 1 + width :]


class CrossEncoder(nn.Module):
    """Pairs of texts to scores [P]; a subclass for each head."""

    head: Head

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, settings: CrossSettings):
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.settings = settings
        self.template = PairTemplate.of(tokenizer)
        if settings.max_length < self.template.specials + 2 or settings.temperature <= 0:
            raise BadInput(f"max_length {settings.max_length}, temperature {settings.temperature}: a pair has no room, or a score no scale")
        self._takes_types = uses_token_types(backbone, tokenizer)

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    def forward(self, pairs: PairTokens) -> ScoredPairs:
        raise NotImplementedError

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Token ids of each text alone, without special tokens, cut to `max_length`; the role changes nothing."""
        cut = {"truncation": True, "max_length": self.settings.max_length, "add_special_tokens": False}
        return self.tokenizer(list(texts), **cut, return_attention_mask=False, return_token_type_ids=False)["input_ids"]

    def pairs(self, queries: Sequence[Sequence[int]], documents: Sequence[Sequence[int]]) -> PairTokens:
        """P pairs out of token ids of texts alone."""
        return self.template.pairs(queries, documents, self.settings.max_length)

    @torch.inference_mode()
    def read(self, queries: Sequence[str], documents: Sequence[str]) -> ScoredPairs:
        """The pairs of a handful of texts, in one batch."""
        return self(self.pairs(self.token_ids(queries, "query"), self.token_ids(documents, "document")).to(self.device))

    def fingerprint(self) -> str:
        """16 hex digits over weights, tokenizer and settings: two cross encoders that agree give the same scores."""
        parts = (weights_digest(self), architecture(self.backbone.config), tokenizer_core(self.tokenizer))
        return fingerprint(*parts, asdict(self.settings), self.head)

    def tokens_fingerprint(self, role: Role) -> str:
        """Changes when `token_ids` would."""
        return fingerprint("alone", tokenizer_core(self.tokenizer), self.settings.max_length)

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def _inputs(self, pairs: PairTokens) -> dict[str, Tensor]:
        types = {"token_type_ids": pairs.token_type_ids} if self._takes_types else {}
        return {"input_ids": pairs.input_ids, "attention_mask": pairs.attention_mask, **types}


class DualPooling(CrossEncoder):
    """Means over the query's and over the document's tokens, of length 1; their cosine over the temperature is the score."""

    head = "dual_pooling"

    def forward(self, pairs: PairTokens) -> ScoredPairs:
        states = self.backbone(**self._inputs(pairs)).last_hidden_state.float()  # [P, L, D]
        query, document = (F.normalize(mean_pool(states, mask), dim=-1) for mask in (pairs.query_mask, pairs.document_mask))
        return ScoredPairs((query * document).sum(-1) / self.settings.temperature, query, document)


class ClsHead(CrossEncoder):
    """A sequence classifier: its one logit is the score; of two classes, the log-odds of the second."""

    head = "cls"

    def forward(self, pairs: PairTokens) -> ScoredPairs:
        logits = self.backbone(**self._inputs(pairs)).logits.float()  # [P, 1 or 2]
        none = logits.new_empty(len(logits), 0)
        return ScoredPairs(logits[:, -1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0], none, none)


def uses_token_types(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the model tells two texts apart by token types and its tokenizer writes them."""
    several = (getattr(backbone.config, "type_vocab_size", None) or 0) > 1
    return (
        several and "token_type_ids" in inspect.signature(backbone.forward).parameters and "token_type_ids" in tokenizer.model_input_names
    )
