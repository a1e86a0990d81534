"""Estimates the length of texts, from which the cost of sending them to a server follows."""

from __future__ import annotations

import numpy as np

from distill.files.sampling import evenly_spaced_rows
from distill.texts.texts import Texts

CHARACTERS_PER_TOKEN = 4  # of English text
TEXTS_SAMPLED = 1000  # to estimate the mean length of all texts


def mean_characters(texts: Texts, rows: np.ndarray | None = None, longest: int | None = None) -> float:
    """Estimates the mean length of texts from a sample of them; 0.0 where there are none.

    Args:
        texts: the texts.
        rows: [n] rows of the texts to measure; None measures all of them.
        longest: number of characters at which a text is cut; None cuts none.
    """
    rows = np.arange(len(texts)) if rows is None else rows
    sample = texts.read(rows[evenly_spaced_rows(len(rows), TEXTS_SAMPLED)])
    lengths = [len(text) if longest is None else min(len(text), longest) for text in sample]
    return float(np.mean(lengths)) if lengths else 0.0
