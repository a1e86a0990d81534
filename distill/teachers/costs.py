"""What a server's work may cost, estimated before anything is sent."""

from __future__ import annotations

import numpy as np

from distill.texts.texts import Texts, evenly_spaced_rows

CHARACTERS_PER_TOKEN = 4  # of English text
TEXTS_SAMPLED = 1000  # to know the mean length of all


def mean_characters(texts: Texts, rows: np.ndarray | None = None, longest: int | None = None) -> float:
    """Estimates the mean length of texts from a sample of them; 0.0 where there are none.

    Args:
        texts: to estimate.
        rows: [n] the rows that count; None are all of them.
        longest: characters at which a text is cut.
    """
    rows = np.arange(len(texts)) if rows is None else rows
    sample = texts.read(rows[evenly_spaced_rows(len(rows), TEXTS_SAMPLED)])
    lengths = [len(text) if longest is None else min(len(text), longest) for text in sample]
    return float(np.mean(lengths)) if lengths else 0.0
