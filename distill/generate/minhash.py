"""Finds near duplicates by MinHash: the share of equal minima estimates the Jaccard similarity of two sets (Broder 1997)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.files.fingerprints import hash_values
from distill.generate.filters import split_words

PIECE = 4  # letters
MINIMA = 64  # hash functions
ROWS_PER_BAND = 4  # minima that must all agree for two texts to be compared
TEXTS_AT_ONCE = 65_536
NO_PIECE = 1 << 32  # above every hash


def minhash_signatures(texts: Sequence[str]) -> np.ndarray:
    """Computes the MinHash signature of each text, [N, MINIMA] uint32: for each hash function its minimum over four-letter pieces."""
    signatures = np.empty((len(texts), MINIMA), np.uint32)
    if not len(texts):
        return signatures
    padded = [" ".join(split_words(text)).encode().ljust(PIECE) for text in texts]
    letters = np.frombuffer(b"".join(padded) + b" " * PIECE, np.uint8).astype(np.uint64)
    # [L] for each letter of the joined texts, the four letters that begin there, packed into one number
    pieces = sum((letters[i : len(letters) - PIECE + i] << np.uint64(8 * i) for i in range(PIECE)), np.uint64(0))
    ends = np.cumsum([len(text) for text in padded])
    starts = np.concatenate([[0], ends[:-1]])
    crossing = np.concatenate([ends - i for i in range(1, PIECE)])  # positions of pieces that begin in one text and end in the next
    factors = np.random.default_rng(0).integers(1 << 63, size=(MINIMA, 2), dtype=np.uint64)
    for column, (factor, summand) in enumerate(factors):
        hashes = (pieces * (factor | np.uint64(1)) + summand) >> np.uint64(32)
        hashes[crossing] = NO_PIECE
        signatures[:, column] = np.minimum.reduceat(hashes, starts)
    return signatures


def find_near_duplicates(signatures: np.ndarray, similarity: float) -> np.ndarray:
    """Finds texts that are similar to an earlier one.

    A signature is divided into bands of ROWS_PER_BAND minima. For each band, a text is compared with the first text that has the same
    band. Of several similar texts the first one is not marked.

    Args:
        signatures: [N, MINIMA] uint32, signatures of N texts.
        similarity: least Jaccard similarity of near duplicates.

    Returns:
        [N] bool, True for near duplicates.
    """
    is_duplicate = np.zeros(len(signatures), bool)
    for band_start in range(0, MINIMA, ROWS_PER_BAND):
        band = np.ascontiguousarray(signatures[:, band_start : band_start + ROWS_PER_BAND])
        _, firsts, group = np.unique(hash_values(row.tobytes() for row in band), return_index=True, return_inverse=True)
        for start in range(0, len(signatures), TEXTS_AT_ONCE):
            rows = slice(start, start + TEXTS_AT_ONCE)
            first = firsts[group[rows]]  # [n] the first text with the same band
            is_similar = (signatures[rows] == signatures[first]).mean(axis=1) >= similarity
            is_earlier = first < np.arange(start, start + len(first))
            is_duplicate[rows] |= is_similar & is_earlier
    return is_duplicate
