"""The picture of similarities."""

from __future__ import annotations

import torch

from distill.callbacks.examples import PIXELS, draw_similarities


def test_similarities_by_hand() -> None:
    picture = draw_similarities(torch.eye(2), torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert picture.shape == (2 * PIXELS, 4 * PIXELS)
    assert picture[::PIXELS, ::PIXELS].tolist() == [[255, 0, 255, 255], [0, 255, 255, 255]]
