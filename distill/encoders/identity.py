"""What identifies the computation of a model: its weights by name, and the part of its config that changes a result."""

from __future__ import annotations

from typing import Any

import torch
import xxhash
from torch import nn
from transformers import PretrainedConfig

# words in the keys of a config whose values change a result while the weights keep their shapes, such as the number of heads
COMPUTATION = ("attention_heads", "hidden_act", "activation", "eps", "position", "rope", "layer_types", "hidden_layers", "window")

# settings with which a decoder's tokens see those behind them too; other values are not recorded, as before these keys were known
BOTH_WAYS = (("is_causal", False), ("use_bidirectional_attention", True))


def weights_digest(module: nn.Module) -> str:
    """16 hex digits over every tensor of a module and its name."""
    digest = xxhash.xxh3_64()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        flat = tensor.detach().cpu().reshape(-1).contiguous()  # a tensor without dimensions cannot be viewed as bytes
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def architecture(config: PretrainedConfig) -> dict[str, Any]:
    """The part of a transformer's config that changes what its weights compute."""
    public = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    both_ways = {key: value for key, value in public.items() if (key, value) in BOTH_WAYS}
    return {key: value for key, value in public.items() if any(word in key for word in COMPUTATION)} | both_ways


def parameter_count(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(parameter.numel() for parameter in module.parameters())
