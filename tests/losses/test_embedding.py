import pytest
import torch

from distill.losses import DocumentMatching, QueryMatching
from distill.losses.embedding import vector_distances
from distill.records import Encoded

OURS = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0]])
THEIRS = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 0.0]])


def queries(vectors: torch.Tensor) -> Encoded:
    none = torch.empty(len(vectors), 0)
    return Encoded(vectors, torch.empty(len(vectors), 0, vectors.shape[1]), none, none.long())


@pytest.mark.parametrize(("distance", "mean"), [("l2", (5 + 2 + 1) / 3), ("squared_l2", (25 + 4 + 1) / 3)])
def test_query_matching_by_hand(distance, mean):
    assert QueryMatching(distance=distance)(queries(OURS), queries(THEIRS)).item() == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize(
    ("distance", "mean"), [("l2", (5 + 2 + 0 + 3) / 4), ("squared_l2", (25 + 4 + 0 + 9) / 4), ("cosine", (0 + 0.4 + 0 + 1) / 4)]
)
def test_query_matching_to_a_vector_beside_each_candidate(distance, mean):
    """One vector of ours to K of the cross encoder's, [B, K, D]; every pair counts alike."""
    ours = queries(torch.tensor([[3.0, 4.0], [2.0, 0.0]]))
    beside = torch.tensor([[[6.0, 8.0], [3.0, 2.0]], [[2.0, 0.0], [2.0, 3.0]]])
    if distance == "cosine":
        beside = torch.tensor([[[6.0, 8.0], [1.0, 0.0]], [[7.0, 0.0], [0.0, 3.0]]])
    theirs = Encoded(beside, torch.zeros(2, 2, 2), torch.zeros(2, 2), torch.zeros(2, 2).long())
    assert QueryMatching(distance=distance)(ours, theirs).item() == pytest.approx(mean, rel=1e-6)
    # the same vector beside every candidate is a dual encoder's
    same = Encoded(theirs.query[:, :1].expand(2, 2, 2), theirs.document, theirs.scores, theirs.document_rows)
    alone = QueryMatching(distance=distance)(ours, queries(theirs.query[:, 0]))
    torch.testing.assert_close(QueryMatching(distance=distance)(ours, same), alone)


def test_cosine_ignores_length():
    ours, theirs = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 3.0]]), torch.tensor([[0.0, 5.0], [7.0, 0.0], [-1.0, -1.0]])
    torch.testing.assert_close(vector_distances(ours, theirs, "cosine"), torch.tensor([1.0, 0.0, 2.0]))
    assert QueryMatching(distance="cosine")(queries(ours), queries(theirs)).item() == pytest.approx(1.0)


def test_document_matching_means_over_all_candidates():
    none = torch.zeros(1, 3, dtype=torch.int64)
    ours, theirs = (Encoded(torch.zeros(1, 2), part[None], torch.zeros(1, 3), none) for part in (OURS, THEIRS))
    assert DocumentMatching()(ours, theirs).item() == pytest.approx((5 + 2 + 1) / 3, rel=1e-6)


@pytest.mark.parametrize("distance", ["l2", "squared_l2", "cosine"])
def test_gradient_is_finite_and_small_where_the_student_agrees(distance):
    ours = torch.tensor([[0.6, 0.8], [1.0, 0.0]], requires_grad=True)
    loss = QueryMatching(distance=distance)(queries(ours), queries(ours.detach()))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=2e-6)
    assert ours.grad.abs().max().item() == pytest.approx(0.0, abs=1e-6)


def test_l2_pulls_with_the_same_strength_from_any_distance():
    ours = OURS.clone().requires_grad_()
    vector_distances(ours, THEIRS, "l2").sum().backward()
    torch.testing.assert_close(ours.grad, torch.tensor([[0.6, 0.8], [0.0, -1.0], [-1.0, 0.0]]))


@pytest.mark.parametrize("distance", ["l2", "squared_l2", "cosine"])
def test_gradient_against_finite_differences(distance):
    torch.manual_seed(0)
    ours, theirs = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda vectors: QueryMatching(distance=distance)(queries(vectors), queries(theirs)), (ours,))
