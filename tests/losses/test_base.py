import torch

from distill.losses.base import batch_scores, false_negative_mask
from distill.teachers.teacher import score_candidates

ROWS = torch.tensor([[4, 7], [9, 4], [5, 6]])


def test_scores_of_a_batch_start_with_its_own_at_i_times_k():
    torch.manual_seed(0)
    encoded = score_candidates(torch.randn(3, 5), torch.randn(3, 2, 5), ROWS)
    scores = batch_scores(encoded)
    assert scores.shape == (3, 6)
    for query in range(3):
        torch.testing.assert_close(scores[query, 2 * query : 2 * query + 2], encoded.scores[query])
        for other in range(3):
            for candidate in range(2):
                by_hand = sum(encoded.query[query, d] * encoded.document[other, candidate, d] for d in range(5))
                torch.testing.assert_close(scores[query, 2 * other + candidate], by_hand)


def test_own_documents_in_others_columns_are_barred():
    encoded = score_candidates(torch.zeros(3, 1), torch.zeros(3, 2, 1), ROWS)
    assert false_negative_mask(encoded).tolist() == [
        [False, False, False, True, False, False],  # 4 again, as the second document of query 1
        [True, False, False, False, False, False],  # 4 again, as the first document of query 0
        [False, False, False, False, False, False],
    ]


def test_what_is_judged_relevant_is_barred_wherever_it_is_but_as_the_answer():
    relevant = torch.tensor([[4, 9, 5], [9, 100, -1], [6, 5, 4]])
    encoded = score_candidates(torch.zeros(3, 1), torch.zeros(3, 2, 1), ROWS, relevant)
    assert false_negative_mask(encoded).tolist() == [
        [False, False, True, True, True, False],  # 9 and 4 of query 1, 5 of query 2; 4, its answer, stays
        [True, False, False, False, False, False],  # 4 again; 9 is its answer
        [True, False, False, True, False, True],  # 4 twice, and 6, its own second candidate
    ]


def test_no_judgments_bar_nothing_more():
    nothing = torch.empty(3, 0, dtype=torch.int64)
    plain, empty = (
        false_negative_mask(score_candidates(torch.zeros(3, 1), torch.zeros(3, 2, 1), ROWS, relevant)) for relevant in (None, nothing)
    )
    assert plain.equal(empty)
