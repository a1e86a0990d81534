"""Several teachers as one: shares, averages and what the weights learn, by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from distill.records import BadInput, Encoded
from distill.teachers.ensemble import EnsembleSettings, EnsembleTeacher

# one teacher says 8 : 1 : 1 and 6 : 3 : 1, the other, at a temperature of 2, 2 : 2 : 1 and 1 : 8 : 1
SHARES = {"a": [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]], "b": [[0.4, 0.4, 0.2], [0.1, 0.8, 0.1]]}
TEMPERATURES = {"a": 1.0, "b": 2.0}
MARGINS = [[0.7, 0.0], [0.3, 0.7]]  # [B, T]


def teachers() -> dict[str, Encoded]:
    """Scores whose softmax at its temperature is each teacher's shares; a constant says nothing."""
    rows, none = torch.arange(6).view(2, 3), torch.empty(2, 0)
    said = {name: TEMPERATURES[name] * torch.tensor(shares).log() + 5 for name, shares in SHARES.items()}
    return {name: Encoded(none, torch.empty(2, 3, 0), scores, rows) for name, scores in {**said, "unused": torch.rand(2, 3)}.items()}


def average(weights: str) -> EnsembleTeacher:
    return EnsembleTeacher(EnsembleSettings(TEMPERATURES, weights))


@pytest.mark.parametrize(
    ("weights", "of_a"),
    [("equal", [0.5, 0.5]), ("margin", [1.0, 0.3]), ("learned", [0.5, 0.5])],  # learned ones begin equal
)
def test_the_average_by_hand(weights, of_a):
    combined = average(weights).combine(teachers())
    by_hand = [[w * a + (1 - w) * b for a, b in zip(*rows, strict=True)] for w, *rows in zip(of_a, *SHARES.values(), strict=True)]
    torch.testing.assert_close(combined.scores.exp(), torch.tensor(by_hand), atol=1e-5, rtol=0)
    assert combined.query.shape == (2, 0) and combined.document.shape == (2, 3, 0)
    assert combined.document_rows.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_weights_of_equal_margins_are_equal():
    logs = torch.tensor([[[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.1, 0.5, 0.4]]]).log()  # margins 0.2, 0 and 0.1
    torch.testing.assert_close(average("margin").log_weights(logs).exp(), torch.tensor([[2 / 3, 0, 1 / 3]]), atol=1e-4, rtol=0)
    nobody_prefers = torch.full((1, 2, 3), 1 / 3).log()
    torch.testing.assert_close(average("margin").log_weights(nobody_prefers).exp(), torch.tensor([[0.5, 0.5]]))


def test_learned_weights_are_a_softmax_of_a_constant_and_of_the_margin():
    learned = average("learned")
    learned.constant.data, learned.margin_factor.data = torch.tensor([0.2, -0.1]), torch.tensor([1.0, 3.0])
    logs = torch.tensor([*zip(*SHARES.values(), strict=True)]).log()  # [B, T, K]
    for row, (a, b) in zip(learned.log_weights(logs).tolist(), MARGINS, strict=True):
        total = exp(0.2 + a) + exp(-0.1 + 3 * b)
        assert row == pytest.approx([0.2 + a - log(total), -0.1 + 3 * b - log(total)], abs=1e-5)


def test_the_loss_is_the_positives_share():
    learned = average("learned")
    assert learned.loss(learned.combine(teachers())).item() == pytest.approx(-(log(0.6) + log(0.35)) / 2, abs=1e-5)
    for weights in ("equal", "margin"):
        assert average(weights).loss(average(weights).combine(teachers())).item() == 0
        assert not list(average(weights).parameters())


def test_learned_weights_move_to_the_better_teacher():
    learned = average("learned")
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    before = learned.loss(learned.combine(teachers())).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = learned.loss(learned.combine(teachers()))
        loss.backward()
        optimizer.step()
    assert loss.item() < before and loss.item() == pytest.approx(-(log(0.8) + log(0.6)) / 2, abs=0.01)  # a is right about both
    logs = torch.tensor([*zip(*SHARES.values(), strict=True)]).log()
    assert learned.log_weights(logs).exp()[:, 0].min() > 0.95


@pytest.mark.parametrize("temperatures", [{}, {"a": 1.0}, {"a": 1.0, "b": 0.0}], ids=str)
def test_impossible_ensembles_are_refused(temperatures):
    with pytest.raises(BadInput, match="at least two teachers, each with a temperature above 0"):
        EnsembleSettings(temperatures)
