"""Many texts through an encoder: sorted by length, a budget of tokens a batch, the order restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from distill.encoders.encoder import Encoder, Role
from distill.files.device import Precision, autocast

TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65_536}  # on a CPU the states of a batch should stay in its caches


def encode_texts(encoder: Encoder, texts: Sequence[str], role: Role, precision: Precision = "fp32") -> np.ndarray:
    """Vectors [N, D] float32 of `texts`, in their order."""
    return encode_token_ids(encoder, encoder.token_ids(texts, role), precision)


@torch.inference_mode()
def encode_token_ids(
    encoder: Encoder,
    token_ids: Sequence[Sequence[int]],
    precision: Precision = "fp32",
    progress: Callable[[int], object] = lambda done: None,
) -> np.ndarray:
    """Vectors [N, D] float32 of texts as `encoder.token_ids` cuts them; `progress` is told how many are done after each batch."""
    vectors = np.empty((len(token_ids), encoder.width), np.float32)
    with autocast(precision, encoder.device):
        for rows in length_batches([len(ids) for ids in token_ids], TOKENS_PER_BATCH[encoder.device.type]):
            tokens = encoder.pad([token_ids[row] for row in rows]).to(encoder.device)
            vectors[rows] = encoder(tokens).float().cpu().numpy()
            progress(len(rows))
    return vectors


def length_batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Rows in batches of texts of near-equal length, the longest first: what runs out of memory does so at once."""
    order = np.argsort(lengths, kind="stable")[::-1]
    start = 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
