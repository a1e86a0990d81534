import math

import pytest
import torch

from distill.losses import ContrastiveMatching, SimilarityMatching
from distill.losses.geometry import pairwise_cosines
from distill.records import Encoded
from distill.teachers.teacher import score_candidates

NO_ROWS = torch.empty(3, 0, dtype=torch.int64)


def queries(vectors: list[list[float]] | torch.Tensor) -> Encoded:
    vectors = torch.as_tensor(vectors)
    return score_candidates(vectors, vectors.new_empty(len(vectors), 0, vectors.shape[1]), NO_ROWS[: len(vectors)])


# cosines of the pairs 01, 02, 12
STUDENT = queries([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])  # 0, 1, 0
TEACHER = queries([[1.0, 0.0], [3.0, 4.0], [0.0, 5.0]])  # 0.6, 0, 0.8


def test_similarities_are_cosines_to_queries_then_candidates():
    encoded = score_candidates(
        torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[[3.0, 4.0]], [[-1.0, 0.0]]]), torch.tensor([[0], [1]])
    )
    torch.testing.assert_close(pairwise_cosines(encoded), torch.tensor([[1.0, 0.0, 0.6, -1.0], [0.0, 1.0, 0.8, 0.0]]))


def test_similarity_matching_by_hand():
    assert SimilarityMatching()(STUDENT, TEACHER).item() == pytest.approx((0.6**2 + 1.0**2 + 0.8**2) / 3, rel=1e-6)


def test_similarity_matching_sees_the_batchs_candidates():
    documents, rows = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), torch.tensor([[0], [1]])
    student = score_candidates(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), documents, rows)  # to each other 1, to the candidates 0 1 and 0 1
    teacher = score_candidates(torch.tensor([[0.6, 0.8], [1.0, 0.0]]), documents, rows)  # 0.6, and 0.8 0.6 and 0 1
    by_hand = (2 * 0.4**2 + 0.8**2 + 0.4**2 + 0 + 0) / 6
    assert SimilarityMatching()(student, teacher).item() == pytest.approx(by_hand, rel=1e-6)


def test_similarity_matching_leaves_rotation_and_length_free():
    turned = queries(7 * TEACHER.query @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    assert SimilarityMatching()(turned, TEACHER).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("loss", [SimilarityMatching(), ContrastiveMatching()])
def test_one_query_alone_says_nothing(loss):
    alone = torch.tensor([[3.0, 4.0]], requires_grad=True)
    found = loss(queries(alone), queries([[1.0, 0.0]]))
    found.backward()
    assert found.item() == 0.0
    assert alone.grad.abs().max() == 0.0


def test_contrastive_matching_by_hand():
    # cosines of the student's to the teacher's: 1 0.6 0, 0 0.8 1, 1 0.6 0
    rows = [[1.0, 0.6, 0.0], [0.0, 0.8, 1.0], [1.0, 0.6, 0.0]]
    by_hand = sum(math.log(sum(math.exp(c / 0.5) for c in row)) - row[i] / 0.5 for i, row in enumerate(rows)) / 3
    assert ContrastiveMatching(temperature=0.5)(STUDENT, TEACHER).item() == pytest.approx(by_hand, rel=1e-6)


def test_the_same_query_again_is_no_negative():
    teacher = queries([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])  # 0 and 2 are one text
    student = queries([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    # each against query 1, query 1 against both of them
    rows = [(1.0, [0.0]), (1.0, [0.0, 0.0]), (0.6, [0.8])]
    by_hand = sum(math.log(sum(math.exp(c) for c in [own, *others])) - own for own, others in rows) / 3
    assert ContrastiveMatching(temperature=1.0)(student, teacher).item() == pytest.approx(by_hand, rel=1e-6)


def test_neighbours_that_are_not_the_same_are_negatives():
    near = math.acos(0.9999)
    teacher = queries([[1.0, 0.0], [math.cos(near), math.sin(near)]])
    assert ContrastiveMatching(temperature=1.0)(teacher, teacher).item() == pytest.approx(math.log(1 + math.exp(-0.0001)), rel=1e-4)


def test_contrastive_matching_is_zero_only_far_from_the_others():
    apart = queries([[1.0, 0.0], [-1.0, 0.0]])
    assert ContrastiveMatching()(apart, apart).item() == pytest.approx(0.0, abs=1e-12)
    assert ContrastiveMatching()(queries([[-1.0, 0.0], [1.0, 0.0]]), apart).item() == pytest.approx(40.0, rel=1e-6)  # 2 / 0.05


@pytest.mark.parametrize("loss", [SimilarityMatching(), ContrastiveMatching(temperature=0.5)])
@pytest.mark.parametrize("candidates", [0, 2])
def test_gradient_against_finite_differences(loss, candidates):
    torch.manual_seed(0)
    rows = torch.arange(4 * candidates).reshape(4, candidates)
    documents = torch.randn(4, candidates, 3, dtype=torch.float64)
    teacher = score_candidates(torch.randn(4, 3, dtype=torch.float64), documents, rows)
    start = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda vectors: loss(score_candidates(vectors, documents, rows), teacher), (start,))
