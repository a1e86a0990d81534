"""The documents that a model in training is measured on, embedded by that model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from distill.encoders.batching import encode_texts
from distill.encoders.encoder import Encoder
from distill.files.device import Precision
from distill.files.ranks import gather_rows, rank, world_size


def embed_documents(module: LightningModule, tower: Encoder, texts: Callable[[np.ndarray], list[str]], rows: np.ndarray) -> Tensor:
    """Vectors [N, D] of the documents in `rows` [N], whose words `texts` reads; every rank embeds its share."""
    share = np.array_split(rows, world_size())[rank()]
    precision: Precision = "bf16" if "bf16" in str(module.trainer.precision) else "fp32"
    return gather_rows(torch.from_numpy(encode_texts(tower, texts(share), "document", precision)).to(module.device))
