"""Near duplicates by MinHash: the share of equal minima estimates the Jaccard similarity of two sets (Broder 1997)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.files.fingerprints import hash_values
from distill.generate.filters import split_words

PIECE = 4  # letters
MINIMA = 64
ROWS_PER_BAND = 4  # minima that must all agree for two texts to be compared
AT_ONCE = 65_536  # texts


def minhash_signatures(texts: Sequence[str]) -> np.ndarray:
    """[N, MINIMA] uint32: the least hash of a text's four-letter pieces, under each of MINIMA hash functions."""
    padded = [" ".join(split_words(text)).encode().ljust(PIECE) for text in texts]
    letters = np.frombuffer(b"".join(padded) + b" " * PIECE, np.uint8).astype(np.uint64)
    ends = np.cumsum([len(text) for text in padded])
    pieces = sum((letters[i : len(letters) - PIECE + i] << np.uint64(8 * i) for i in range(PIECE)), np.uint64(0))  # [letters]
    crossing = np.concatenate([ends - i for i in range(1, PIECE)]) if len(ends) else np.empty(0, np.int64)
    random = np.random.default_rng(0)
    found = np.empty((len(texts), MINIMA), np.uint32)
    for column, (factor, summand) in enumerate(random.integers(1 << 63, size=(MINIMA, 2), dtype=np.uint64)):
        hashed = (pieces * (factor | np.uint64(1)) + summand) >> np.uint64(32)
        hashed[crossing] = 1 << 32  # begins in one text and ends in the next
        found[:, column] = np.minimum.reduceat(hashed, np.concatenate([[0], ends[:-1]])) if len(texts) else 0
    return found


def find_near_duplicates(found: np.ndarray, similarity: float) -> np.ndarray:
    """[N] bool: whether a text is as similar as that to an earlier one that shares a band of `found` [N, MINIMA] with it.

    It is compared with the first text of each of its bands: of texts that are all alike one is left.
    """
    again = np.zeros(len(found), bool)
    for start in range(0, MINIMA, ROWS_PER_BAND):
        band = np.ascontiguousarray(found[:, start : start + ROWS_PER_BAND])
        _, firsts, group = np.unique(hash_values(row.tobytes() for row in band), return_index=True, return_inverse=True)
        for at in range(0, len(found), AT_ONCE):
            first = firsts[group[at : at + AT_ONCE]]
            alike = (found[at : at + AT_ONCE] == found[first]).mean(axis=1) >= similarity
            again[at : at + AT_ONCE] |= alike & (first < np.arange(at, at + len(first)))
    return again
