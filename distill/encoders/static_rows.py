"""The rows of a table of tokens out of the weights of its folder; without importing torch, as `StaticEncoder` reads them too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from distill.records import BadInput

STATIC = "StaticEmbedding"  # the module of sentence-transformers that is a table of tokens and the mean of its rows
TOKENIZER, WEIGHTS = "tokenizer.json", "model.safetensors"
ROWS = "embedding.weight"  # as sentence-transformers calls them


def join_rows(weights: Mapping[str, np.ndarray], folder: Path) -> np.ndarray:
    """The row [V, D] of each token id, which sentence-transformers stores as they are, and model2vec in up to three parts.

    Args:
        weights: `embedding.weight` [V, D]; or `embeddings` [N, D], with `mapping` [V], the number of each token's row, and `weights` [V],
            the factor of each token, where there are such.
        folder: where they come from, for the message.

    Raises BadInput where they are neither.

    >>> parts = {"embeddings": np.array([[1.0, 2.0]]), "mapping": np.array([0, 0]), "weights": np.array([1.0, 3.0])}
    >>> join_rows(parts, Path("folder")).tolist()
    [[1.0, 2.0], [3.0, 6.0]]
    """
    if ROWS in weights:
        rows = weights[ROWS]
    elif "embeddings" in weights:
        rows = weights["embeddings"]
        if "mapping" in weights:
            rows = rows[weights["mapping"]]
        if "weights" in weights:
            rows = rows.astype(np.float32) * weights["weights"][:, None]
    else:
        names = ", ".join(weights) or "nothing"
        raise BadInput(f"{folder}: its weights are {names}: a table of tokens has {ROWS}, or embeddings where model2vec wrote it")
    if rows.ndim != 2 or not rows.size:
        raise BadInput(f"{folder}: its table of tokens is of shape {rows.shape}: it needs a row for each token")
    return np.ascontiguousarray(rows)


def refuse_missing_rows(folder: Path, vocabulary: Mapping[str, int], rows: int) -> None:
    """Raises BadInput where a token of the vocabulary, which has the id of each, has no row in a table of so many `rows`."""
    last = max(vocabulary.values(), default=-1)
    if last >= rows:
        raise BadInput(f"{folder}: its tokenizer has ids up to {last}, its table {rows} rows: restore the one that belongs to the other")
