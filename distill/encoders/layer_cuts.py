"""Cuts layers out of a transformer."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from distill.encoders.transformer_folder import first_line, new_backbone
from distill.files.progress import log
from distill.records import BadInput, is_out_of_memory, one_line

OTHER_START = "begin from StudentFromBackbone (shrink: --backbone)"
PER_LAYER = ("layer_types", "attention_window")  # settings that may list a value for each layer
DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "dropout_rate",  # T5
    "embd_pdrop",  # GPT-2
    "attn_pdrop",
    "resid_pdrop",
)


def check_layers(layers: Any) -> None:
    """Refuses what is neither a number of layers nor a list of them."""
    if isinstance(layers, bool) or not isinstance(layers, int | list | tuple):
        raise BadInput(f"layers: {layers!r}: give how many layers to keep, e.g. 2, or list them, counted from 0, e.g. [0, 5]")


def keep_layers(backbone: PreTrainedModel, layers: int | list[int]) -> PreTrainedModel:
    """A copy of a transformer with so many of its layers, as `choose_layers` has them, or with those that are listed."""
    depth = backbone.config.num_hidden_layers
    if isinstance(layers, int):
        return cut_layers(backbone, choose_layers(layers, depth))
    if layers and depth - 1 not in layers:
        reason = f"leaves out the last layer, {depth - 1}, which the modules behind it were trained on: a student that keeps it is better"
        log.warning(f"layers: {layers}: {reason}")
    return cut_layers(backbone, list(layers))


def choose_layers(count: int, depth: int) -> list[int]:
    """Chooses `count` of `depth` layers, evenly spaced, the first and the last among them; a single one is the last.

    Raises BadInput where the model has not so many.

    >>> choose_layers(2, depth=12), choose_layers(3, depth=6), choose_layers(1, depth=6)
    ([0, 11], [0, 2, 5], [5])
    """
    if not 1 <= count <= depth:
        raise BadInput(f"layers: {count}: the model has {depth}: keep from 1 to {depth} of them")
    if count == 1:
        return [depth - 1]
    places = [number * (depth - 1) / (count - 1) for number in range(count)]
    return [math.ceil(place - 0.5) for place in places]  # a half is rounded down


def cut_layers(backbone: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """A copy of a transformer with some of its layers.

    Args:
        layers: the numbers of those to keep, from 0, in the order they will run.

    Raises BadInput where there is no such layer, and where the architecture cannot be cut there.
    """
    count = backbone.config.num_hidden_layers
    if not layers or len(set(layers)) < len(layers) or not all(0 <= layer < count for layer in layers):
        raise BadInput(f"layers: {layers}: name each layer to keep once, from 0 to {count - 1}")
    state = cut_state(backbone.state_dict(), find_layer_path(backbone, count), layers)
    try:
        student = new_backbone(cut_config(backbone.config, layers))
        student.load_state_dict(state)
    except Exception as error:  # of any kind, where an architecture has more settings of its layers
        if is_out_of_memory(error):
            raise
        lines = str(error).splitlines()
        has_heading = isinstance(error, RuntimeError) and len(lines) > 1
        reason = f"{backbone.config.model_type} cannot be cut so: {one_line(lines[1]) if has_heading else first_line(error)}"
        raise BadInput(f"layers: {layers}: {reason}: keep more layers, or {OTHER_START}") from None
    return student.eval()


def cut_config(config: PretrainedConfig, layers: list[int]) -> PretrainedConfig:
    """The config of a transformer with some of its layers, without dropout."""
    cut = copy.deepcopy(config)
    cut.num_hidden_layers = len(layers)
    for name in PER_LAYER:
        values = getattr(config, name, None)
        remaining = [values[layer] for layer in layers] if isinstance(values, list) else values
        if getattr(cut, name, None) != remaining:  # some configs compute theirs from the number of layers
            setattr(cut, name, remaining)
    set_dropout_to_zero(cut)
    return cut


def cut_state(state: dict[str, Tensor], path: str, layers: list[int]) -> dict[str, Tensor]:
    """Removes all layers below `path` but those in `layers` from a state dict, and renumbers these.

    >>> cut_state({"words": 1, "layer.0.weight": 2, "layer.1.weight": 3}, "layer", [1])
    {'words': 1, 'layer.0.weight': 3}
    """
    new_number = {str(layer): new for new, layer in enumerate(layers)}
    cut = {}
    for name, tensor in state.items():
        match = re.fullmatch(rf"{re.escape(path)}\.(\d+)\.(.*)", name)
        if match is None:
            cut[name] = tensor
        elif match[1] in new_number:
            cut[f"{path}.{new_number[match[1]]}.{match[2]}"] = tensor
    return cut


def find_layer_path(backbone: PreTrainedModel, count: int) -> str:
    """Where in a model its stack of `count` layers is, e.g. `encoder.layer`."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name
    raise BadInput(f"{backbone.config.model_type}: this architecture has no stack of {count} layers to cut: {OTHER_START}")


def turn_off_dropout(backbone: PreTrainedModel) -> PreTrainedModel:
    """Sets a model's dropout to 0: matching is regression onto fixed vectors, to which dropout only adds noise."""
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout"):  # a number that a layer keeps, as T5's
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    set_dropout_to_zero(backbone.config)
    return backbone


def set_dropout_to_zero(config: PretrainedConfig) -> None:
    """Turns off dropout in every model that is made from `config`."""
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, 0.0)
