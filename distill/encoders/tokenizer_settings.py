"""Settings of a tokenizer that sentence-transformers follows and this package does not: refused where they change a vector."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.records import BadInput

SETTINGS = "tokenizer_config.json"
LARGEST_SHIFT = 1e-2  # of a state, as a share of the largest, that is rounding


def check_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, backbone: PreTrainedModel) -> None:
    """Refuses a tokenizer whose settings make the vector of a text depend on its neighbours, or that tells the texts of a pair apart.

    Raises:
        BadInput: which names the setting.
    """
    names, path = tokenizer.model_input_names, folder / SETTINGS
    if "attention_mask" not in names:
        raise BadInput(f"{path}: model_input_names: {', '.join(names)}: padding would be read as text: add attention_mask")
    if tokenizer.padding_side == "left" and shifts_positions(tokenizer, backbone):
        raise BadInput(f"{path}: padding_side: left: this model counts positions from the padding on: set right")
    if "token_type_ids" in names and "token_type_ids" in inspect.signature(backbone.forward).parameters:
        types = set(tokenizer("a")["token_type_ids"])
        if types - {0}:
            fix = "give a single text type 0 in its template"
            raise BadInput(f"{folder / 'tokenizer.json'}: tokens of a text have type {max(types)}, which is not supported: {fix}")


@torch.inference_mode()
def shifts_positions(tokenizer: PreTrainedTokenizerFast, backbone: PreTrainedModel) -> bool:
    """Whether padding before a text changes the states of its tokens, as it does where positions are counted from the padding on."""
    ids = tokenizer("a")["input_ids"]
    padded = [tokenizer.pad_token_id or 0] * 2 + ids
    mask = [0] * 2 + [1] * len(ids)
    alone = backbone(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).last_hidden_state[0]  # [L, D]
    behind = backbone(input_ids=torch.tensor([padded]), attention_mask=torch.tensor([mask])).last_hidden_state[0, 2:]  # [L, D]
    return bool((alone - behind).abs().max() > LARGEST_SHIFT * alone.abs().max())
