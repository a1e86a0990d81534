"""What is called a fault, on tensors that a hand can check."""

from __future__ import annotations

import math

import pytest
import torch

from distill.callbacks.diagnosis import Spread, find_collapse, find_idle_loss, find_norm_drift, measure_spread
from distill.records import Encoded
from distill.teachers.agreement import diagnose_wrong_vectors


def test_spread_by_hand() -> None:
    axes = measure_spread(2 * torch.eye(4))  # four directions alike: rank 4, all at right angles
    assert axes == pytest.approx(Spread(effective_rank=4, pairwise_cosine=0, norm=2), abs=1e-6)
    point = measure_spread(torch.tensor([[3.0, 4.0]]).repeat(5, 1))
    assert point == pytest.approx(Spread(effective_rank=1, pairwise_cosine=1, norm=5), abs=1e-5)
    # singular values sqrt(2) and 1: shares p and 1 - p
    p = math.sqrt(2) / (math.sqrt(2) + 1)
    three = measure_spread(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert three.effective_rank == pytest.approx(math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p)), rel=1e-5)
    assert three.pairwise_cosine == pytest.approx(1 / 3, abs=1e-6)


def test_misfit_by_hand() -> None:
    vectors = torch.eye(4)
    assert diagnose_wrong_vectors(vectors, vectors + 1e-4, vectors) is None
    fault = diagnose_wrong_vectors(vectors[[1, 0, 2, 3]], vectors, vectors)
    assert fault is not None and fault.name == "misalignment" and "2 belong to other texts (mean cosine 0.500)" in fault.message
    fault = diagnose_wrong_vectors(vectors + 0.3, vectors, vectors + 0.3)  # every vector is nearest its own, but not on it
    assert fault is not None and fault.name == "teacher"


def test_collapse_by_hand() -> None:
    teacher = Spread(effective_rank=8, pairwise_cosine=0.2, norm=1)
    assert find_collapse(Spread(2, 0.91, 1), teacher) is None  # a quarter of the rank, more than a tenth of 1 - 0.2
    for student in (Spread(1.9, 0.2, 1), Spread(8, 0.93, 1)):
        fault = find_collapse(student, teacher)
        assert fault is not None and fault.name == "collapse" and "the teacher's 8.0 and 0.200" in fault.message


def test_norms_by_hand() -> None:
    teacher = Spread(effective_rank=8, pairwise_cosine=0.2, norm=2)
    assert find_norm_drift(Spread(8, 0.2, 1), teacher) is find_norm_drift(Spread(8, 0.2, 4), teacher) is None
    for norm in (0.9, 4.1):
        fault = find_norm_drift(Spread(8, 0.2, norm), teacher)
        assert fault is not None and f"length {norm:.3g} on average, the teacher's 2" in fault.message


def test_idle_losses_by_hand() -> None:
    query = torch.ones(1, 2, requires_grad=True)
    student = Encoded(query, torch.ones(1, 1, 2), query.sum(1, keepdim=True), torch.zeros(1, 1, dtype=torch.int64))
    moving, flat = query.square().sum(), 0 * query.sum()
    assert find_idle_loss("a", 1.0, moving, student) is None
    for weight, value, reason in ((0.0, moving, "weight"), (1.0, flat, "gradient"), (1.0, moving.detach(), "gradient")):
        fault = find_idle_loss("a", weight, value, student)
        assert fault is not None and fault.name == "gradient of a" and f"its {reason} is 0" in fault.message
