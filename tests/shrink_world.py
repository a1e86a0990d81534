"""Texts of the small world for jobs of shrink."""

from __future__ import annotations

import numpy as np
from conftest import TOPICS, sentence

MINUTES = 60  # enough on any machine; see small_jobs


def make_texts(count: int, longest: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [sentence(random, TOPICS[i % len(TOPICS)], int(random.integers(2, longest))) for i in range(count)]
