"""Chooses which layers of a transformer a student keeps, without training: those whose states are most like the teacher's vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.encoders.layer_cuts import cut_layers
from distill.encoders.modules import Transformer
from distill.encoders.pooling import Pooling
from distill.files.device import best_device
from distill.records import BadInput


def choose_alike_layers(encoder: Encoder, most: int, token_ids: Sequence[np.ndarray], targets: np.ndarray) -> list[list[int]]:
    """Chooses the layers of students of 1 to `most` layers.

    The last layer comes first, as the head was trained on it; then, one by one, the layer with which the cut is most like the teacher. So
    each student has the layers of the next smaller one, and one more. Of the cuts of one size that were tried, the one most like the
    teacher before training was the best after it (experiments/small/RESULT.md).

    Args:
        encoder: has the layers to choose from, `most` or more.
        most: layers of the largest student.
        token_ids: the tokens of N texts, as the students cut them, so without marks of a prompt.
        targets: [N, D], the teacher's vectors of these texts.

    Returns:
        The numbers of the layers of each student, ascending; that of one layer first.
    """
    depth = encoder.backbone.config.num_hidden_layers
    chosen = [[depth - 1]]
    while len(chosen) < most:
        trials = [sorted([*chosen[-1], layer]) for layer in range(depth) if layer not in chosen[-1]]
        is_free = len(trials) > 1
        chosen.append(max(trials, key=lambda layers: score_cut(encoder, layers, token_ids, targets)) if is_free else trials[0])
    return chosen


def score_cut(encoder: Encoder, layers: list[int], token_ids: Sequence[np.ndarray], targets: np.ndarray) -> float:
    """How like the teacher's vectors [N, D] of N texts the pooled states of a cut are, from 0 to 1; -1 where it cannot be cut so."""
    try:
        backbone = cut_layers(encoder.backbone, layers).float()  # as a student is trained, whatever the teacher's weights are in
    except BadInput:
        return -1.0
    body = Encoder([Transformer(backbone), Pooling(*encoder.pooling.modes)], encoder.tokenizer, encoder.settings)
    return measure_alignment(encode_token_ids(body.prepare_for(best_device()).eval(), token_ids), targets)


def measure_alignment(states: np.ndarray, targets: np.ndarray) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019) of states [N, S] and targets [N, D].

    1 where the one are the other, turned, moved and scaled; 0 where they have nothing in common.

    >>> corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> round(measure_alignment(corners, 3 * corners[:, ::-1] + 5), 3), round(measure_alignment(corners, corners[:, :1]), 3)
    (1.0, 0.707)
    >>> measure_alignment(np.ones((4, 2)), corners)
    0.0
    """
    left, right = (values.astype(np.float64) - values.mean(axis=0, dtype=np.float64) for values in (states, targets))
    common, own = np.square(left.T @ right).sum(), np.square(left.T @ left).sum() * np.square(right.T @ right).sum()
    return float(common / np.sqrt(own)) if own > 0 else 0.0
