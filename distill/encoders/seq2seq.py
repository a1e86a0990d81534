"""A sequence-to-sequence model (BART, T5) that reads a text and writes queries, with all it takes to do so in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.device_batches import TOKENS_PER_WRITING, TokenBudget
from distill.encoders.hub import local_folder
from distill.encoders.identity import architecture, weights_digest
from distill.encoders.loading import check_folder, optional_json
from distill.encoders.model_checks import refuse_slow_tokenizer
from distill.encoders.tokenizing import Role, tokenizer_fingerprint, truncated_ids
from distill.encoders.transformer_folder import LOADING, refuse_missing_weights, refuse_unreadable_model
from distill.files.atomic import write_atomically, write_json
from distill.files.fingerprints import fingerprint
from distill.records import Tokens

SETTINGS = "query_generation.json"  # within its folder; a folder without one is read with the defaults
IGNORED = -100  # label of padding; transformers' models put the padding id in its place when they shift labels


@dataclass(frozen=True)
class Seq2SeqSettings:
    """How texts are prepared for the model."""

    prefix: str = ""  # before every text that is read
    longest_text: int = 256  # tokens read, special ones included
    longest_query: int = 48  # tokens written


class Seq2SeqModel:
    """Model, tokenizer and settings; it reads texts of the role document and writes texts of the role query."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, settings: Seq2SeqSettings):
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.budget = TokenBudget(TOKENS_PER_WRITING, fix="set longest_text or longest_query to fewer")

    @classmethod
    def load(cls, name: str, **changes: Any) -> Seq2SeqModel:
        """Loads a model from its folder or hub name.

        Args:
            changes: fields of `Seq2SeqSettings` that take the place of the folder's own, where they are not None.

        Raises BadInput where the folder holds no such model.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # here, as the import takes a second

        folder = local_folder(name)
        values = optional_json(folder / SETTINGS) | {key: value for key, value in changes.items() if value is not None}
        with refuse_unreadable_model(folder, "no sequence-to-sequence model such as BART or T5"):
            check_folder(folder, "AutoModelForSeq2SeqLM")
            model, report = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=False, **LOADING)
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            settings = Seq2SeqSettings(**values)
        missing = [weight for weight in report["missing_keys"] if ".pooler." not in weight]  # no decoder reads the pooler
        refuse_missing_weights(name, missing)
        refuse_slow_tokenizer(folder, tokenizer)
        return cls(model.eval(), tokenizer, limit_to_positions(settings, model))

    def save(self, folder: Path) -> None:
        """Writes a folder that transformers reads too, whole or not at all."""
        with write_atomically(folder) as temporary:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            write_json(temporary / SETTINGS, asdict(self.settings))

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Token ids, special tokens included, of documents to read, with the prefix before them, or of queries to write."""
        is_read = role == "document"
        prefix = self.settings.prefix if is_read else ""
        longest = self.settings.longest_text if is_read else self.settings.longest_query
        ids = truncated_ids(self.tokenizer, [prefix + text for text in texts], longest)
        return [row or [self.tokenizer.pad_token_id] for row in ids]

    def tokens_fingerprint(self, role: Role) -> str:
        """16 hex digits that change when `token_ids` would return other ids."""
        return fingerprint(tokenizer_fingerprint(self.tokenizer), asdict(self.settings), role)

    def fingerprint(self) -> str:
        """16 hex digits over weights, tokenizer and settings."""
        return fingerprint(weights_digest(self.model), architecture(self.model.config), self.tokens_fingerprint("document"))

    def states(self, tokens: Tokens) -> Tensor:
        """The encoder's state of each token [B, L, D]."""
        return self.model.get_encoder()(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state

    def log_likelihoods(self, documents: Tokens, queries: Tokens) -> Tensor:
        """Log-likelihood [B] of each query given its document, summed over the query's tokens."""
        labels = queries.input_ids.masked_fill(queries.attention_mask == 0, IGNORED)  # [B, L]
        inputs = {"input_ids": documents.input_ids, "attention_mask": documents.attention_mask}
        logits = self.model(**inputs, labels=labels, use_cache=False).logits  # [B, L, V]
        losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")  # [B, L], 0 on padding
        return -losses.sum(1)


def limit_to_positions(settings: Seq2SeqSettings, model: PreTrainedModel) -> Seq2SeqSettings:
    """The same settings with texts and queries no longer than the model has positions."""
    positions = getattr(model.config, "max_position_embeddings", None)  # T5 has none: its positions are relative
    if not positions:
        return settings
    return replace(settings, longest_text=min(settings.longest_text, positions), longest_query=min(settings.longest_query, positions))
