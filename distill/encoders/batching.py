"""Encodes many texts in batches of near-equal length, each within a budget of tokens; vectors come in the order of the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from distill.encoders.device_batches import TokenBudget, run_in_batches
from distill.encoders.tokenizing import Ids, Role
from distill.files.device import Precision, autocast, keep_freed_memory
from distill.files.progress import progress_bar
from distill.records import Tokens

KERNELS = 128 * 2**20  # bytes that they take for themselves when they run first
BATCHES_WITHOUT_BAR = 50  # a job of so many batches or fewer shows no progress bar


class TextEncoder(Protocol):
    """What this file needs of an encoder."""

    budget: TokenBudget

    @property
    def width(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def token_ids(self, texts: Sequence[str], role: Role) -> list[list[int]]: ...

    def pad(self, token_ids: Sequence[Ids]) -> Tokens: ...

    def __call__(self, tokens: Tokens) -> Tensor: ...


def encode_with_progress(encoder: TextEncoder, texts: str | Sequence[str], role: Role) -> np.ndarray:
    """Vectors [N, D] float32 of `texts`, or the vector [D] of a single text; a long job shows a progress bar."""
    token_ids = encoder.token_ids([texts] if isinstance(texts, str) else list(texts), role)
    batches = sum(map(len, token_ids)) / encoder.budget.tokens(encoder.device)
    with progress_bar(total=len(token_ids), desc=f"encode {role}", unit=" texts", shown=batches > BATCHES_WITHOUT_BAR) as bar:
        vectors = encode_token_ids(encoder, token_ids, progress=bar.update)
    return vectors[0] if isinstance(texts, str) else vectors


def encode_texts(encoder: TextEncoder, texts: Sequence[str], role: Role, precision: Precision = "fp32") -> np.ndarray:
    """Vectors [N, D] float32 of `texts`, in their order."""
    return encode_token_ids(encoder, encoder.token_ids(texts, role), precision)


@torch.inference_mode()
def encode_token_ids(
    encoder: TextEncoder,
    token_ids: Sequence[Ids],
    precision: Precision = "fp32",
    progress: Callable[[int], object] = lambda done: None,
) -> np.ndarray:
    """Vectors [N, D] float32 of N texts, which are given as the token ids that `encoder.token_ids` returns.

    Args:
        progress: is called after each batch with the number of texts in it.

    Raises BadInput where a single text does not fit into the memory of the device.
    """
    vectors = np.empty((len(token_ids), encoder.width), np.float32)
    keep_freed_memory()

    def pad(rows: np.ndarray) -> Tokens:
        return encoder.pad([token_ids[row] for row in rows])

    def embed(tokens: Tokens) -> Tensor:
        return encoder(tokens.to(encoder.device)).float()

    lengths = [len(ids) for ids in token_ids]
    with autocast(precision, encoder.device):
        for rows, values in run_in_batches(lengths, encoder.budget, encoder.device, pad, embed):
            vectors[rows] = values
            progress(len(rows))
    return vectors


def batch_memory(tokens: int, numbers_per_token: int, precision: Precision) -> int:
    """Bytes that one batch of so many tokens takes beside the weights, with PyTorch's kernels."""
    numbers = tokens * numbers_per_token
    return KERNELS + numbers * (2 if precision == "bf16" else 4)


def inner_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Products [N, M] of vectors [N, D] and [M, D]; a single vector [D] counts as one row.

    >>> inner_products(np.array([1.0, 0.0]), np.array([[3.0, 4.0], [5.0, 6.0]])).tolist()
    [[3.0, 5.0]]
    """
    return np.atleast_2d(left) @ np.atleast_2d(right).T
