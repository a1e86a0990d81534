"""Operations of matrix products: a measure of work that is the same for every model and machine, by which rates carry over."""

from __future__ import annotations

import numpy as np
from torch import nn

from distill.encoders.encoder import Encoder

PASSES = 3  # a training step costs as much as so many forward passes: the backward one multiplies twice


def count_operations(encoder: Encoder, lengths: np.ndarray) -> float:
    """Counts the operations in which an encoder embeds texts: two for each weight and token, and the products of attention.

    Args:
        encoder: embeds them.
        lengths: [N] tokens of each text.
    """
    weights = sum(module.weight.numel() for module in encoder.transformer.modules() if isinstance(module, nn.Linear))
    lengths = np.asarray(lengths, float)
    if not encoder.transformer.has_layers:
        return float(2 * encoder.transformer.width * lengths.sum())  # a table of tokens adds its rows up
    config = encoder.backbone.config
    attention = 4 * config.hidden_size * config.num_hidden_layers * np.square(lengths).sum()
    return float(2 * weights * lengths.sum() + attention)
