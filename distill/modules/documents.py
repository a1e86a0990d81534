"""The documents that a model in training is measured on, embedded by that model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from distill.device import Precision
from distill.distributed import rank, world_size
from distill.encoders.batched import encode_texts
from distill.encoders.encoder import Encoder


def embedded(module: LightningModule, tower: Encoder, texts: Callable[[np.ndarray], list[str]], rows: np.ndarray) -> Tensor:
    """Vectors [N, D] of the documents in `rows` [N], whose words `texts` reads; every rank embeds its share."""
    share = np.resize(rows[rank() :: world_size()], -(-len(rows) // world_size()))  # equally many on every rank
    precision: Precision = "bf16" if "bf16" in str(module.trainer.precision) else "fp32"
    own = torch.from_numpy(encode_texts(tower, texts(share), "document", precision)).to(module.device)  # [n, D]
    every: Any = module.all_gather(own)
    return every.transpose(0, 1).flatten(0, 1)[: len(rows)] if world_size() > 1 else own
