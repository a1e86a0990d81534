"""Cross encoders: one transformer reads a query and a document together.

There are two heads. Dual pooling (EmbedDistill, arXiv 2301.12005, section 4.2) makes one vector of the query's tokens and one of the
document's; their inner product is the score, and they are targets for the towers of a dual encoder. The ordinary head reads [CLS] and
gives scores only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.device_batches import TokenBudget
from distill.encoders.identity import architecture, parameter_count, weights_digest
from distill.encoders.pair_tokens import PairTemplate, PairTokens
from distill.encoders.pooling import mean_pool
from distill.encoders.tokenizing import Role, tokenizer_fingerprint, truncated_ids
from distill.encoders.transformer_folder import save_transformer
from distill.encoders.transformer_settings import LENGTH_SETTINGS, reads_lower_case
from distill.files.atomic import write_atomically, write_json
from distill.files.fingerprints import fingerprint
from distill.records import BadInput

Head = Literal["dual_pooling", "cls"]
SETTINGS = "cross_encoder.json"  # in the folder of a dual-pooled one; a [CLS] one has none
# without it sentence-transformers applies a sigmoid to a single score
AS_LOGITS = {"activation_fn": "torch.nn.modules.linear.Identity"}


@dataclass(frozen=True)
class CrossSettings:
    """How a pair becomes a score, beyond the weights."""

    max_length: int  # tokens of a pair, special tokens included; the document is cut to fit
    temperature: float = 0.05  # the cosine of two pooled vectors is divided by it; a [CLS] head has none


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of P pairs and, from a dual-pooling head, the two vectors of each pair."""

    scores: Tensor  # [P] float32
    query: Tensor  # [P, D] float32, of length 1, pooled from the query's tokens; D = 0 from a [CLS] head
    document: Tensor  # [P, D] float32, of length 1, pooled from the document's tokens

    def pack(self) -> Tensor:
        """[P, 1 + 2 D]: score, query vector, document vector."""
        return torch.cat([self.scores[:, None], self.query, self.document], dim=1)


def unpack_scores_and_vectors(packed: Any) -> tuple[Any, Any, Any]:
    """Scores [...], query vectors [..., D] and document vectors [..., D] out of [..., 1 + 2 D], as `ScoredPairs.pack` makes them.

    >>> scores, query, document = unpack_scores_and_vectors(torch.tensor([[9.0, 1.0, 2.0, 3.0, 4.0]]))
    >>> query.tolist(), document.tolist()
    ([[1.0, 2.0]], [[3.0, 4.0]])
    """
    width = packed.shape[-1] // 2
    return packed[..., 0], packed[..., 1 : 1 + width], packed[..., 1 + width :]


class CrossEncoder(nn.Module):
    """Scores pairs of texts, [P]; there is a subclass for each head.

    Raises BadInput where a pair of `settings.max_length` tokens has no room for two texts.
    """

    head: Head

    def __init__(self, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, settings: CrossSettings):
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.settings = settings
        self.budget = TokenBudget(fix="take a smaller model, or teach one with a smaller model.max_length")
        self.template = PairTemplate.from_tokenizer(tokenizer)
        shortest = self.template.special_count + 2
        if settings.max_length < shortest:
            raise BadInput(f"max_length {settings.max_length}: a pair has no room for two texts: set {shortest} or more")
        if settings.temperature <= 0:
            raise BadInput(f"temperature {settings.temperature}: cosines are divided by it: set a number above 0")
        self.takes_token_types = uses_token_types(backbone, tokenizer)

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def width(self) -> int:
        """Numbers of a packed pair: 1 + 2 D where two vectors are pooled, else 1."""
        return 1 + (2 * self.backbone.config.hidden_size if self.head == "dual_pooling" else 0)

    def forward(self, pairs: PairTokens) -> ScoredPairs:
        raise NotImplementedError

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Token ids of each text alone, without special tokens, cut to `max_length`; the role changes nothing."""
        return truncated_ids(self.tokenizer, texts, self.settings.max_length, special_tokens=False)

    def build_pairs(self, queries: Sequence[Sequence[int]], documents: Sequence[Sequence[int]]) -> PairTokens:
        """A batch of P pairs out of the token ids of P queries and P documents."""
        return self.template.build_pairs(queries, documents, self.settings.max_length)

    def pair_lengths(self, queries: Sequence[Sized], documents: Sequence[Sized]) -> list[int]:
        """Numbers of tokens of P pairs, special tokens included."""
        longest, specials = self.settings.max_length, self.template.special_count
        return [min(longest, len(query) + len(document) + specials) for query, document in zip(queries, documents, strict=True)]

    @torch.inference_mode()
    def score(self, queries: Sequence[str], documents: Sequence[str]) -> ScoredPairs:
        """Scores of a handful of pairs, query i beside document i, in one batch."""
        pairs = self.build_pairs(self.token_ids(queries, "query"), self.token_ids(documents, "document"))
        return self(pairs.to(self.device))

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a folder that `load_cross_encoder` reads, whole or not at all."""
        with write_atomically(Path(folder)) as temporary:
            self._write(temporary)

    def fingerprint(self) -> str:
        """16 hex digits over weights, tokenizer and settings: two cross encoders that agree give the same scores."""
        parts = (weights_digest(self), architecture(self.backbone.config), tokenizer_fingerprint(self.tokenizer))
        return fingerprint(*parts, asdict(self.settings), self.head)

    def tokens_fingerprint(self, role: Role) -> str:
        """16 hex digits that change when `token_ids` would return other ids."""
        # "alone" tells these ids, which have no special tokens, from those of an encoder with the same tokenizer
        return fingerprint("alone", tokenizer_fingerprint(self.tokenizer), self.settings.max_length)

    def parameter_count(self) -> int:
        return parameter_count(self)

    def _inputs(self, pairs: PairTokens) -> dict[str, Tensor]:
        inputs = {"input_ids": pairs.input_ids, "attention_mask": pairs.attention_mask}
        if self.takes_token_types:
            inputs["token_type_ids"] = pairs.token_type_ids
        return inputs

    def _write(self, folder: Path) -> None:
        save_transformer(self.backbone, self.tokenizer, self.settings.max_length, folder)
        if reads_lower_case(self.tokenizer):
            write_json(folder / LENGTH_SETTINGS, {"max_seq_length": self.settings.max_length, "do_lower_case": True})


class DualPooling(CrossEncoder):
    """Two vectors, the mean of the query's states and of the document's, of length 1; the score is their product over the temperature."""

    head = "dual_pooling"

    def forward(self, pairs: PairTokens) -> ScoredPairs:
        states = self.backbone(**self._inputs(pairs)).last_hidden_state.float()  # [P, L, D]
        query = F.normalize(mean_pool(states, pairs.query_mask), dim=-1)  # [P, D]
        document = F.normalize(mean_pool(states, pairs.document_mask), dim=-1)  # [P, D]
        return ScoredPairs((query * document).sum(-1) / self.settings.temperature, query, document)

    def _write(self, folder: Path) -> None:
        super()._write(folder)
        write_json(folder / SETTINGS, {"head": self.head, "settings": asdict(self.settings)})


class ClsHead(CrossEncoder):
    """A sequence classifier: its one logit is the score; of two classes, the log-odds of the second."""

    head = "cls"

    def forward(self, pairs: PairTokens) -> ScoredPairs:
        logits = self.backbone(**self._inputs(pairs)).logits.float()  # [P, 1 or 2]
        scores = logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]
        no_vectors = logits.new_empty(len(logits), 0)
        return ScoredPairs(scores, no_vectors, no_vectors)

    def _write(self, folder: Path) -> None:
        self.backbone.config.sentence_transformers = AS_LOGITS
        super()._write(folder)


def uses_token_types(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the model has a token type for each of two texts, and its tokenizer writes them."""
    type_count = getattr(backbone.config, "type_vocab_size", None) or 0
    is_argument = "token_type_ids" in inspect.signature(backbone.forward).parameters
    return type_count > 1 and is_argument and "token_type_ids" in tokenizer.model_input_names
