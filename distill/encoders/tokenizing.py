"""From texts to token ids: prompts, the cut at the longest text an encoder reads, padding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from distill.files.fingerprints import fingerprint
from distill.records import Tokens

Role = Literal["query", "document"]


def no_prompts() -> dict[str, str]:
    """Empty prompts of both roles."""
    return {"query": "", "document": ""}


@dataclass(frozen=True)
class TextSettings:
    """What an encoder does to a text before its first module reads it."""

    max_length: int  # tokens, special tokens included; the rest of a text is cut off
    prompts: dict[str, str] = field(default_factory=no_prompts)  # put before a text of that role


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], settings: TextSettings, role: Role) -> list[list[int]]:
    """Token ids of each text with the prompt of its role, special tokens added, cut to `max_length`."""
    if not texts:
        return []  # a tokenizer refuses an empty list
    prompt = settings.prompts.get(role, "")
    return tokenizer(
        [prompt + text for text in texts],
        truncation=True,
        max_length=settings.max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]


def pad_token_ids(token_ids: Sequence[Sequence[int]], pad_id: int) -> Tokens:
    """One batch [B, L], padded on the right to its longest text.

    >>> pad_token_ids([[5, 6, 7], [8]], pad_id=0).input_ids.tolist()
    [[5, 6, 7], [8, 0, 0]]
    """
    rows = [torch.as_tensor(row, dtype=torch.int64) for row in token_ids]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)  # [B, L]
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(ids.shape[1]) < lengths[:, None]  # [B, L]
    return Tokens(ids, mask.long(), padded=bool((lengths < ids.shape[1]).any()))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """16 hex digits that change when the tokenizer would cut a text into other tokens."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    # the settings of the last call, which this package gives with every call
    for leftover in ("truncation", "padding"):
        core.pop(leftover, None)
    return fingerprint(core, tokenizer.truncation_side)
