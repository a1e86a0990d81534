"""`Transformer`: a model of the transformers library at the beginning of an encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill.encoders.attention_masks import spare_looks_at_masks
from distill.encoders.identity import architecture
from distill.encoders.loading import is_remote
from distill.encoders.model_checks import count_positions
from distill.encoders.pooling import MODES, PoolingMode
from distill.records import Tokens

LONGEST_FOR_EAGER = 512  # tokens up to which plain matrix products are faster on a CPU than the fused attention kernel
INNER_WIDTHS = ("intermediate_size", "d_ff", "hidden_dim")  # names of the width between the products of a layer, by family


class Transformer(nn.Module):
    """A model of the transformers library: tokens [B, L] to a state for each of them [B, L, D]."""

    has_layers = True  # so that it can be cut, compiled and exported, and long texts need much memory
    poolings: tuple[PoolingMode, ...] = MODES  # what may follow it

    def __init__(self, backbone: PreTrainedModel):
        super().__init__()
        self.backbone = backbone
        self.own_attention: str = backbone.config._attn_implementation or "eager"
        self.is_switching = False  # whether texts up to LONGEST_FOR_EAGER tokens have plain products, and longer ones its own attention

    @property
    def width(self) -> int:
        """Dimensions of a token's state."""
        return self.backbone.config.hidden_size

    @property
    def word_table(self) -> nn.Embedding:
        """The vectors of the vocabulary's words, before the first layer."""
        table = self.backbone.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        return table

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its weights."""
        return self.backbone.dtype

    @property
    def positions(self) -> int | None:
        """The most tokens that it reads; None where it knows no limit."""
        return count_positions(self.backbone)

    @property
    def numbers_per_token(self) -> int:
        """How many numbers it keeps at once for each token of a batch, as far as the sizes of its layers tell."""
        config = self.backbone.config
        inner = next((getattr(config, name) for name in INNER_WIDTHS if getattr(config, name, None)), 4 * config.hidden_size)
        return 8 * config.hidden_size + 4 * inner

    @property
    def runs_remote_code(self) -> bool:
        """Whether its class is one of the code of the folder that it was loaded from."""
        return is_remote(self.backbone)

    def architecture(self) -> dict[str, Any]:
        """What changes its states while its weights keep their shapes."""
        return architecture(self.backbone.config)

    def forward(self, tokens: Tokens) -> Tensor:
        if self.is_switching:
            self._set_attention("eager" if tokens.input_ids.shape[1] <= LONGEST_FOR_EAGER else self.own_attention)
        mask = tokens.attention_mask if tokens.padded else None  # without one the backbone adds nothing to its attention scores
        states = self.backbone(input_ids=tokens.input_ids, attention_mask=mask).last_hidden_state
        return states.float() if states.dtype == torch.bfloat16 else states  # sums and lengths are computed in fp32

    def use_fastest_attention(self, device: torch.device, max_length: int) -> None:
        """Chooses the attention that is fastest on `device` for texts of up to `max_length` tokens."""
        if device.type == "cuda":
            spare_looks_at_masks()
        self.is_switching = device.type == "cpu" and max_length > LONGEST_FOR_EAGER
        # plain matrix products; the fused kernel is slower at short lengths on a CPU, and its bf16 backward many times so
        self._set_attention("eager" if device.type == "cpu" and not self.is_switching else self.own_attention)

    @contextmanager
    def fastest_attention(self, device: torch.device, max_length: int) -> Iterator[None]:
        """As `use_fastest_attention`, until the end of the block."""
        before, was_switching = self.backbone.config._attn_implementation, self.is_switching
        self.use_fastest_attention(device, max_length)
        try:
            yield
        finally:
            self.backbone.set_attn_implementation(before or "eager")
            self.is_switching = was_switching

    def compile_layers(self) -> None:
        """Compiles its layers for batches of any size, when they run first."""
        backbone: Any = self.backbone
        backbone.forward = torch.compile(backbone.forward, dynamic=True)

    def _set_attention(self, name: str) -> None:
        if self.backbone.config._attn_implementation != name:
            self.backbone.set_attn_implementation(name)
