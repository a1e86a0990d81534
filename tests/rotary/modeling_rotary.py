"""A small encoder in the manner of NomicBERT: rotary positions, gated layers, norms behind them, no biases."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_rotary import RotaryConfig


def rotate(states):
    """States [B, H, L, D] turned by angles that grow with their place."""
    length, width = states.shape[-2:]
    angles = torch.arange(length)[:, None] / 1000 ** (torch.arange(width // 2)[None] / (width // 2))  # [L, D / 2]
    first, second = states.chunk(2, dim=-1)
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], dim=-1)


class RotaryLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wide = nn.Linear(config.n_embd, 2 * config.n_inner, bias=False)
        self.narrow = nn.Linear(config.n_inner, config.n_embd, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)

    def forward(self, states, mask):
        parts = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(states).chunk(3, dim=-1)]
        attended = F.scaled_dot_product_attention(rotate(parts[0]), rotate(parts[1]), parts[2], attn_mask=mask)
        states = self.norm1(states + self.out(attended.transpose(1, 2).flatten(-2)))
        values, gates = self.wide(states).chunk(2, dim=-1)
        return self.norm2(states + self.narrow(values * F.silu(gates)))


class RotaryModel(PreTrainedModel):
    config_class = RotaryConfig
    base_model_prefix = "rotary"

    def __init__(self, config):
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(RotaryLayer(config) for _ in range(config.n_layer))
        self.post_init()

    def get_input_embeddings(self):
        return self.embeddings

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **_):
        mask = None if attention_mask is None else attention_mask[:, None, None].bool()
        states = self.embeddings(input_ids)
        for layer in self.layers:
            states = layer(states, mask)
        return BaseModelOutput(last_hidden_state=states)
