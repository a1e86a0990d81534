"""Embeds the dev documents with the model in training."""

from __future__ import annotations

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.files.device import Precision
from distill.files.ranks import gather_rows, rank, world_size
from distill.texts.tokens import TokenArrays


def embed_documents(module: LightningModule, tower: Encoder, tokens: TokenArrays, rows: np.ndarray) -> Tensor:
    """Embeds documents of the corpus; every rank embeds its share, and all ranks get all vectors.

    Args:
        module: the module in training, whose device and precision are used.
        tower: encoder of the documents.
        tokens: tokens of the corpus for this tower.
        rows: [N] rows of the documents.

    Returns:
        [N, D] float32 vectors.
    """
    share = np.array_split(rows, world_size())[rank()]
    precision: Precision = "bf16" if "bf16" in str(module.trainer.precision) else "fp32"
    vectors = torch.from_numpy(encode_token_ids(tower, [tokens.ids(row) for row in share], precision))
    return gather_rows(vectors.to(module.device))
