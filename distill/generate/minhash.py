"""Finds near duplicates by MinHash: the share of equal minima estimates the Jaccard similarity of two sets (Broder 1997)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.files.fingerprints import hash_values
from distill.generate.filters import split_words

PIECE = 4  # letters
MINIMA = 64  # hash functions
# By the least similarity asked for: minima that must all agree for two texts to be compared. Of s, 1 - (1 - s ** rows) ** (64 / rows) of
# the pairs are: 99.9% at 0.7 by four rows, 95% at 0.3 by two.
ROWS_PER_BAND = {0.7: 4, 0.0: 2}
TEXTS_AT_ONCE = 65_536
NO_PIECE = 1 << 32  # above every hash


def minhash_signatures(texts: Sequence[str]) -> np.ndarray:
    """Computes the MinHash signature of each text, [N, MINIMA] uint32: for each hash function its minimum over four-letter pieces."""
    signatures = np.empty((len(texts), MINIMA), np.uint32)
    if not len(texts):
        return signatures
    padded = [" ".join(split_words(text)).ljust(PIECE) for text in texts]
    letters = np.frombuffer(("".join(padded) + " " * PIECE).encode("utf-32-le"), np.uint32).astype(np.uint64)
    # [L] for each letter of the joined texts, the four letters that begin there, packed into one number; letters beyond 16 bits overlap
    pieces = sum((letters[i : len(letters) - PIECE + i] << np.uint64(16 * i) for i in range(PIECE)), np.uint64(0))
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

    A signature is divided into bands of a few minima. For each band, a text is compared with the first text that has the same
    band. Of several similar texts the first one is not marked.

    Args:
        signatures: [N, MINIMA] uint32, signatures of N texts.
        similarity: least Jaccard similarity of near duplicates.

    Returns:
        [N] bool, True for near duplicates.
    """
    is_duplicate = np.zeros(len(signatures), bool)
    minima = next(rows for least, rows in ROWS_PER_BAND.items() if similarity >= least)
    for band_start in range(0, MINIMA, minima):
        band = np.ascontiguousarray(signatures[:, band_start : band_start + minima])
        _, firsts, group = np.unique(hash_values(row.tobytes() for row in band), return_index=True, return_inverse=True)
        for start in range(0, len(signatures), TEXTS_AT_ONCE):
            rows = slice(start, start + TEXTS_AT_ONCE)
            first = firsts[group[rows]]  # [n] the first text with the same band
            is_similar = (signatures[rows] == signatures[first]).mean(axis=1) >= similarity
            is_earlier = first < np.arange(start, start + len(first))
            is_duplicate[rows] |= is_similar & is_earlier
    return is_duplicate
