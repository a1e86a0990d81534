"""Even samples."""

from __future__ import annotations

import numpy as np


def evenly_spaced_rows(total: int, most: int) -> np.ndarray:
    """[min(total, most)] int64: different rows of `total`, ascending, evenly spaced from the first to the last.

    >>> evenly_spaced_rows(10, 3).tolist()
    [0, 4, 9]
    """
    return np.linspace(0, total - 1, min(most, total)).astype(np.int64)
