"""From texts to token ids: prompts, the cut at the longest text an encoder reads, padding."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from distill.encoders.long_texts import cut_long_texts
from distill.files.fingerprints import fingerprint
from distill.records import BadInput, Tokens

Role = Literal["query", "document"]
Ids = Sequence[int] | np.ndarray  # token ids of one text
LONGEST_UNASKED = 8192  # tokens at which texts are cut where a folder would read longer ones, whose attention may not fit into memory


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
    prompt = settings.prompts.get(role) or ""
    return truncated_ids(tokenizer, [prompt + text for text in texts], settings.max_length)


def refuse_long_prompts(tokenizer: PreTrainedTokenizerFast, settings: TextSettings, roles: Collection[str] = ("query", "document")) -> None:
    """Raises BadInput where the prompt of one of the roles leaves no room for a text, so that all texts would have one vector."""
    for role in roles:
        prompt = settings.prompts.get(role)
        if prompt and len(truncated_ids(tokenizer, [prompt], settings.max_length)[0]) >= settings.max_length:
            fix = "give more max_length, or a shorter prompt"
            raise BadInput(f"{tokenizer.name_or_path}: the prompt of a {role} fills all {settings.max_length} tokens: {fix}")


def mark_prompts(token_ids: list[list[int]], tokenizer: PreTrainedTokenizerFast, settings: TextSettings, role: Role) -> list[list[int]]:
    """Replaces the ids of the prompt's tokens, and of special tokens before them, by `~id`, which is below 0.

    As in sentence-transformers they are as many as the prompt alone has, without a special token at its end.
    """
    prompt = settings.prompts.get(role) or ""
    if not prompt:
        return token_ids
    alone = truncated_ids(tokenizer, [prompt], settings.max_length)[0]
    count = len(alone) - (bool(alone) and alone[-1] in tokenizer.all_special_ids)
    return [[~id_ for id_ in row[:count]] + row[count:] for row in token_ids]


def unmark_prompts(tokens: Tokens) -> tuple[Tokens, Tensor]:
    """Returns the tokens with their ids, and which of them [B, L] `mark_prompts` has marked."""
    is_prompt = tokens.input_ids < 0
    return replace(tokens, input_ids=torch.where(is_prompt, ~tokens.input_ids, tokens.input_ids)), is_prompt


def truncated_ids(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int, special_tokens: bool = True
) -> list[list[int]]:
    """Token ids of each text, cut to `max_length`, special tokens included."""
    if not texts:
        return []  # a tokenizer refuses an empty list
    if tokenizer.truncation_side == "right":
        texts = cut_long_texts(tokenizer.backend_tokenizer, texts, max_length)
    return tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        add_special_tokens=special_tokens,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]


def pad_token_ids(token_ids: Sequence[Ids], pad_id: int) -> Tokens:
    """One batch [B, L], padded on the right to its longest text; L is 1 where no text has a token.

    >>> pad_token_ids([[5, 6, 7], [8]], pad_id=0).input_ids.tolist()
    [[5, 6, 7], [8, 0, 0]]
    """
    lengths = np.fromiter(map(len, token_ids), np.int64, len(token_ids))
    longest = max(1, int(lengths.max(initial=0)))  # a model reads no sequence of length 0
    is_real = np.arange(longest) < lengths[:, None]  # [B, L]
    ids = np.full(is_real.shape, pad_id, np.int64)
    ids[is_real] = np.concatenate([*token_ids, []])
    return Tokens(torch.from_numpy(ids), torch.from_numpy(is_real.astype(np.int64)), padded=not is_real.all())


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """16 hex digits that change when the tokenizer would cut a text into other tokens."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    # the settings of the last call, which this package gives with every call
    for leftover in ("truncation", "padding"):
        core.pop(leftover, None)
    return fingerprint(core, tokenizer.truncation_side)
