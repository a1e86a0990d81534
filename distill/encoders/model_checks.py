"""Checks that a model and a tokenizer belong together: what would fail or go wrong at some text is refused before the first one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.tokenizing import pad_token_ids
from distill.files.progress import log
from distill.records import BadInput, Tokens, is_out_of_memory, one_line

# names under which transformers keeps a table with a row for each position
POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe", "pos_emb")
PADDING_STAND_INS = ("eos_token", "unk_token", "sep_token", "cls_token", "bos_token", "mask_token")
# numbers of a text differ by less, as a share of the largest, where the padding beside it has no effect
SAME_SHARE = {torch.bfloat16: 0.1}  # 1e-2 in other formats


def fit_tokenizer(folder: Path, tokenizer: Any, model: PreTrainedModel) -> None:
    """Gives the tokenizer a padding token where it has none.

    Raises BadInput where it has no Rust backend, no token to pad with, or tokens for which the model has no row.
    """
    refuse_slow_tokenizer(folder, tokenizer)
    refuse_tokens_without_row(folder, tokenizer, model)
    if tokenizer.pad_token_id is None:
        stand_ins = [getattr(tokenizer, name) for name in PADDING_STAND_INS if getattr(tokenizer, f"{name}_id") is not None]
        if not stand_ins:
            raise BadInput(f"{folder}: its tokenizer has no padding token: set pad_token in its tokenizer_config.json")
        tokenizer.pad_token = stand_ins[0]  # any token will do, as padding is masked


def refuse_slow_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Raises BadInput where a tokenizer is written in Python, which this package cannot identify or run without transformers."""
    if not getattr(tokenizer, "is_fast", False):
        kind = type(tokenizer).__name__
        raise BadInput(f"{folder}: its tokenizer, a {kind}, has no Rust backend: choose a model with a tokenizer.json")


def refuse_tokens_without_row(folder: Path, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> None:
    """Raises BadInput where the tokenizer has more tokens than the model's table of words has rows, or an added one behind its last row."""
    try:
        table: Any = model.get_input_embeddings()
        rows = len(table.weight)
    except (NotImplementedError, AttributeError):
        return  # the model computes the vectors of words
    last = max(tokenizer.added_tokens_decoder, default=0)
    name = f", the last added {str(tokenizer.added_tokens_decoder[last])!r}" if last >= rows else ""
    if len(tokenizer) > rows or name:
        count = f"{max(len(tokenizer), last + 1)} tokens{name}"
        fix = "resize_token_embeddings makes the missing ones, or take these tokens out"
        raise BadInput(f"{folder}: its tokenizer has {count}, its model's word table {rows} rows: {fix}")


def try_backbone(folder: Path, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Reads two short texts; raises BadInput where the model does not give a state for each of their tokens."""
    tokens = trial_tokens(tokenizer)
    length = int(tokens.attention_mask[1].sum())

    def read() -> str | None:
        states = backbone(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        expected = (*tokens.input_ids.shape, backbone.config.hidden_size)
        if states.shape != expected:
            return f"its states are {tuple(states.shape)}, not {expected}"
        alone = backbone(input_ids=tokens.input_ids[1:, :length]).last_hidden_state
        if not is_same(states[1:, :length], alone):
            log.warning(f"{folder}: {backbone.config.model_type}: the vector of a text depends on the longest text of its batch")
        return None

    refuse_failure(folder, backbone, read)


def try_classifier(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Scores two short texts; raises BadInput where the model fails, or where a score depends on the padding beside its text."""
    tokens = trial_tokens(tokenizer)
    pad_id = getattr(model.config, "pad_token_id", None)
    if pad_id is None:
        pad_id = model.config.pad_token_id = tokenizer.pad_token_id  # heads of decoders look for the last token that is none

    def score() -> str | None:
        logits = model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).logits  # [2, labels]
        if logits.ndim != 2 or len(logits) != 2:
            return f"its scores of 2 texts are {tuple(logits.shape)}"
        alone = model(input_ids=tokens.input_ids[1:, : int(tokens.attention_mask[1].sum())]).logits
        if is_same(logits[1:], alone):
            return None
        return f"a score depends on the padding, token {pad_id} in its config.json and {tokenizer.pad_token_id} in its tokenizer"

    refuse_failure(folder, model, score)


def is_same(padded: Tensor, alone: Tensor) -> bool:
    """Whether a model gives the same numbers for a text with padding beside it and without."""
    return bool((padded - alone).abs().max() <= SAME_SHARE.get(alone.dtype, 1e-2) * alone.abs().max())


def trial_tokens(tokenizer: PreTrainedTokenizerFast) -> Tokens:
    """Two texts, of which the second is shorter."""
    ids = tokenizer(["a a a a", "a"], return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    return pad_token_ids([row or [tokenizer.pad_token_id] for row in ids], tokenizer.pad_token_id)


@torch.inference_mode()
def refuse_failure(folder: Path, model: PreTrainedModel, trial: Callable[[], str | None]) -> None:
    """Raises BadInput where `trial` returns what is wrong or raises anything."""
    try:
        fault = trial()
    except Exception as error:  # models raise errors of any kind where they need other inputs than token ids
        if is_out_of_memory(error):
            raise
        fault = one_line(error)
    if fault and getattr(model.config, "is_encoder_decoder", False):
        fix = "of such models only T5's encoder is read, without a head"
        raise BadInput(f"{folder}: its {type(model).__name__} encodes and decodes: {fix}")
    if fault:
        raise BadInput(f"{folder}: its {type(model).__name__} does not read texts: {fault}: choose a model that embeds texts")


def count_positions(model: PreTrainedModel) -> int | None:
    """The most tokens for which a model has positions; None where it knows no limit."""
    counts = count_table_rows(model)
    named = getattr(model.config, "max_position_embeddings", None)
    if isinstance(named, int) and named > 0:  # XLNet says -1
        counts.append(named)
    return min(counts, default=None)


def count_table_rows(model: nn.Module) -> list[int]:
    """Of each table of positions in a model the rows that tokens can have; none where it computes positions, so that it has no limit."""
    counts = []
    for parent in model.modules():
        for name in POSITION_TABLES:
            table: Any = getattr(parent, name, None)
            weight = getattr(table, "weight", table)  # some keep a tensor of fixed numbers
            if not isinstance(weight, Tensor) or weight.ndim != 2:
                continue
            padding = getattr(table, "padding_idx", None)
            # behind the row of padding in RoBERTa and the families made after it
            first = getattr(table, "offset", 0) if padding is None else padding + 1
            counts.append(len(weight) - first)
    return counts
