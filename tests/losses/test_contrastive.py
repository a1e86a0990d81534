import math

import pytest
import torch

from distill.losses import OneHot
from distill.teachers.teacher import score_candidates

QUERIES = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
DOCUMENTS = torch.tensor([[[1.0, 1.0], [3.0, 0.0]], [[0.0, 1.0], [1.0, -1.0]]])  # [2, 2, 2]
# scores of all candidates: query 0: 1 3 0 1, query 1: 2 0 2 -2


def cross_entropy(answer: float, others: list[float]) -> float:
    return math.log(sum(math.exp(score) for score in [answer, *others])) - answer


def test_softmax_over_own_and_in_batch_candidates():
    encoded = score_candidates(QUERIES, DOCUMENTS, torch.tensor([[0, 1], [2, 3]]))
    by_hand = (cross_entropy(1, [3, 0, 1]) + cross_entropy(2, [2, 0, -2])) / 2
    assert OneHot(temperature=1.0)(encoded, encoded).item() == pytest.approx(by_hand, rel=1e-6)


def test_temperature_divides_the_scores():
    encoded = score_candidates(QUERIES, DOCUMENTS, torch.tensor([[0, 1], [2, 3]]))
    by_hand = (cross_entropy(2, [6, 0, 2]) + cross_entropy(4, [4, 0, -4])) / 2
    assert OneHot(temperature=0.5)(encoded, encoded).item() == pytest.approx(by_hand, rel=1e-6)


def test_an_own_document_in_another_querys_columns_is_not_counted_again():
    # document 0 is the positive of both queries; document 3 is a negative of query 1 alone
    documents = torch.tensor([[[1.0, 1.0], [3.0, 0.0]], [[1.0, 1.0], [1.0, -1.0]]])
    encoded = score_candidates(QUERIES, documents, torch.tensor([[0, 1], [0, 3]]))
    by_hand = (cross_entropy(1, [3, 1]) + cross_entropy(2, [0, -2])) / 2
    assert OneHot(temperature=1.0)(encoded, encoded).item() == pytest.approx(by_hand, rel=1e-6)


def test_an_own_negative_repeated_elsewhere_counts_once():
    # document 1 is a negative of query 0 and the positive of query 1
    documents = torch.tensor([[[1.0, 1.0], [3.0, 0.0]], [[3.0, 0.0], [1.0, -1.0]]])
    encoded = score_candidates(QUERIES, documents, torch.tensor([[0, 1], [1, 3]]))
    by_hand = (cross_entropy(1, [3, 1]) + cross_entropy(0, [2, -2])) / 2
    assert OneHot(temperature=1.0)(encoded, encoded).item() == pytest.approx(by_hand, rel=1e-6)


def test_two_pairs_of_one_query_are_not_each_others_negatives():
    # one query, judged with documents 0 and 2, is both rows of the batch
    encoded = score_candidates(QUERIES[:1].expand(2, 2), DOCUMENTS, torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 2], [0, 2]]))
    by_hand = (cross_entropy(1, [3, 1]) + cross_entropy(0, [3, 1])) / 2  # scores 1 3 0 1 of documents 0 1 2 3
    assert OneHot(temperature=1.0)(encoded, encoded).item() == pytest.approx(by_hand, rel=1e-6)


def test_a_second_judged_document_among_the_candidates_is_no_negative():
    # document 1 is judged for query 0 too, document 0 for query 1
    encoded = score_candidates(QUERIES, DOCUMENTS, torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 1], [2, 0]]))
    by_hand = (cross_entropy(1, [0, 1]) + cross_entropy(2, [0, -2])) / 2
    assert OneHot(temperature=1.0)(encoded, encoded).item() == pytest.approx(by_hand, rel=1e-6)


def test_the_gradient_is_softmax_minus_one_hot():
    query = QUERIES.clone().requires_grad_()
    encoded = score_candidates(query, DOCUMENTS, torch.tensor([[0, 1], [2, 3]]))
    OneHot(temperature=1.0)(encoded, encoded).backward()
    columns = DOCUMENTS.flatten(0, 1)  # [4, 2]
    shares = torch.softmax(QUERIES @ columns.T, dim=1)
    shares[0, 0] -= 1
    shares[1, 2] -= 1
    torch.testing.assert_close(query.grad, shares @ columns / 2)


def test_gradient_against_finite_differences():
    rows = torch.tensor([[0, 1], [0, 3]])
    torch.manual_seed(0)
    query, document = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)

    def loss(query, document):
        encoded = score_candidates(query, document, rows)
        return OneHot(temperature=0.3)(encoded, encoded)

    assert torch.autograd.gradcheck(loss, (query.requires_grad_(), document.requires_grad_()))


def test_documents_that_are_masked_leave_the_gradient_finite():
    query = QUERIES.clone().requires_grad_()
    encoded = score_candidates(query, DOCUMENTS[:1].expand(2, 2, 2), torch.tensor([[0, 1], [0, 1]]))
    OneHot()(encoded, encoded).backward()
    assert torch.isfinite(query.grad).all()


def test_the_default_temperature_is_used_where_none_was_given():
    fitted, given = OneHot(), OneHot(temperature=0.1)
    assert fitted.temperature_in_use == 0.05
    for loss in (fitted, given):
        loss.set_default_temperatures(1.0)
    assert (fitted.temperature_in_use, given.temperature_in_use) == (1.0, 0.1)
    encoded = score_candidates(QUERIES, DOCUMENTS, torch.tensor([[0, 1], [2, 3]]))
    torch.testing.assert_close(fitted(encoded, encoded), OneHot(temperature=1.0)(encoded, encoded))
