"""Fits the projection of a student to the teacher's vectors in closed form, before its first step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.encoders.modules import Dense
from distill.files.sampling import evenly_spaced_rows

MOST_TEXTS = 10_000  # which a small encoder reads in seconds; more hardly change the fit
STRENGTH = 1e-3  # of the ridge, as a share of the mean square of a state's numbers


def fit_projection(student: Encoder, token_ids: Sequence[np.ndarray], targets: np.ndarray) -> None:
    """Sets the last dense layer of a student so that it maps what comes before it as near as a linear map can to the teacher's vectors.

    Args:
        student: its head ends with that layer, and possibly a Normalize.
        token_ids: the tokens of N texts; of more than 10,000 an even sample is read.
        targets: [N, D], the teacher's vectors of these texts.
    """
    head = list(student.head)
    place, projection = [(number, module) for number, module in enumerate(head) if isinstance(module, Dense)][-1]
    body = Encoder([student.transformer, student.pooling, *head[:place]], student.tokenizer, student.settings).eval()
    rows = evenly_spaced_rows(len(token_ids), MOST_TEXTS)
    states = encode_token_ids(body, [token_ids[row].tolist() for row in rows])  # [n, S]
    weight = solve_projection(states, targets[rows])
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(weight))


def solve_projection(states: np.ndarray, targets: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """The matrix W [D, S] that minimises |states W^T - targets|^2 + ridge |W|^2, for states [N, S] and targets [N, D].

    >>> solve_projection(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0], [8.0]]), strength=1e-9).round(6).tolist()
    [[3.0, 4.0]]
    """
    states = states.astype(np.float64)
    squares = states.T @ states  # [S, S]
    ridge = strength * np.trace(squares) / len(squares) or 1.0  # of states that are all 0 any map is the best
    return np.linalg.solve(squares + ridge * np.eye(len(squares)), states.T @ targets).T
