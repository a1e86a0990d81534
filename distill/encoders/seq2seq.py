"""A sequence-to-sequence model (BART, T5) that reads a text and writes queries, with all it takes to do so in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.encoder import Role, architecture, tokenizer_core, weights_digest
from distill.encoders.folder import local_folder, refuse_unreadable_model
from distill.files.atomic import read_json, write_atomically, write_json
from distill.files.fingerprints import fingerprint
from distill.records import BadInput, Tokens

SETTINGS = "query_generation.json"  # within its folder; a folder without one is read with the defaults


@dataclass(frozen=True)
class Seq2SeqSettings:
    """How texts are put to the model, beyond the weights."""

    prefix: str = ""  # before every text that is read
    longest_text: int = 256  # tokens read, special ones included
    longest_query: int = 48  # tokens written


class Seq2SeqModel:
    """Model, tokenizer and settings; the roles are those of `tokenized`: a document is read, a query is written."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, settings: Seq2SeqSettings):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings

    @classmethod
    def load(cls, name: str, **given: Any) -> Seq2SeqModel:
        """From a folder or hub name; settings given win over the folder's own."""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer  # a second, for one generator of many

        folder = local_folder(name)
        own = read_json(folder / SETTINGS, "settings") if (folder / SETTINGS).exists() else {}
        with refuse_unreadable_model(folder, "no sequence-to-sequence model such as BART or T5"):
            model, report = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
            tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            settings = Seq2SeqSettings(**{**own, **{key: value for key, value in given.items() if value is not None}})
        if missing := [name for name in report["missing_keys"] if ".pooler." not in name]:  # which no decoder looks at
            raise BadInput(f"{name}: its weights lack {min(missing)}: random numbers would stand in their place")
        positions = getattr(model.config, "max_position_embeddings", None) or max(settings.longest_text, settings.longest_query)
        cut = {key: min(getattr(settings, key), positions) for key in ("longest_text", "longest_query")}
        return cls(model.eval(), tokenizer, replace(settings, **cut))

    def save(self, folder: Path) -> None:
        """Writes a folder that transformers reads too, whole or not at all."""
        with write_atomically(folder) as temporary:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            write_json(temporary / SETTINGS, asdict(self.settings))

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Of what is read, with its prefix, or of what is written; special tokens added."""
        settings = self.settings
        read = role == "document"
        texts, longest = (
            ([settings.prefix + text for text in texts], settings.longest_text) if read else (list(texts), settings.longest_query)
        )
        ids = self.tokenizer(texts, truncation=True, max_length=longest, return_attention_mask=False, return_token_type_ids=False)[
            "input_ids"
        ]
        return [row or [self.tokenizer.pad_token_id] for row in ids]

    def tokens_fingerprint(self, role: Role) -> str:
        return fingerprint(tokenizer_core(self.tokenizer), asdict(self.settings), role)

    def fingerprint(self) -> str:
        return fingerprint(weights_digest(self.model), architecture(self.model.config), self.tokens_fingerprint("document"))

    def states(self, tokens: Tokens) -> Tensor:
        """What the encoder says of each token [B, L, D]."""
        return self.model.get_encoder()(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state

    def log_likelihoods(self, read: Tokens, written: Tokens) -> Tensor:
        """Summed log-likelihood of the tokens of each query [B] after its document."""
        labels = written.input_ids.masked_fill(written.attention_mask == 0, -100)
        logits = self.model(input_ids=read.input_ids, attention_mask=read.attention_mask, labels=labels).logits
        found = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")  # 0 on padding
        return -found.sum(1)
