"""Settings of a tokenizer that sentence-transformers follows and this package does not: refused where they change a vector."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distill.encoders.model_checks import is_same
from distill.records import BadInput

SETTINGS = "tokenizer_config.json"


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
    if "token_type_ids" in names and reads_token_types(tokenizer, backbone):
        fix = "take token_type_ids out, or give all tokens of a single text type 0 in the template of tokenizer.json"
        raise BadInput(f"{path}: model_input_names: token_type_ids: the types of a single text's tokens are not read here: {fix}")


@torch.inference_mode()
def reads_token_types(tokenizer: PreTrainedTokenizerFast, backbone: PreTrainedModel) -> bool:
    """Whether the token types that the tokenizer writes for a single text change its states."""
    if "token_type_ids" not in inspect.signature(backbone.forward).parameters:
        return False
    written = tokenizer("a", return_attention_mask=False, return_token_type_ids=True)
    ids, types = (torch.tensor([written[name]]) for name in ("input_ids", "token_type_ids"))  # [1, L]
    if not ids.numel():
        return False
    try:
        with_types = backbone(input_ids=ids, token_type_ids=types).last_hidden_state  # [1, L, D]
    except IndexError:  # more types than the model has
        return True
    return not is_same(backbone(input_ids=ids).last_hidden_state, with_types)


@torch.inference_mode()
def shifts_positions(tokenizer: PreTrainedTokenizerFast, backbone: PreTrainedModel) -> bool:
    """Whether padding before a text changes the states of its tokens, as it does where positions are counted from the padding on."""
    ids = tokenizer("a")["input_ids"] or [0]
    padded = [tokenizer.pad_token_id or 0] * 2 + ids
    mask = [0] * 2 + [1] * len(ids)
    alone = backbone(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).last_hidden_state[0]  # [L, D]
    behind = backbone(input_ids=torch.tensor([padded]), attention_mask=torch.tensor([mask])).last_hidden_state[0, 2:]  # [L, D]
    return not is_same(behind, alone)
