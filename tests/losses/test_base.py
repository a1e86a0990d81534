import torch

from distill.encoders.dual import dual
from distill.losses.base import batch_scores, repeated

ROWS = torch.tensor([[4, 7], [9, 4], [5, 6]])


def test_scores_of_a_batch_start_with_its_own_at_i_times_k():
    torch.manual_seed(0)
    encoded = dual(torch.randn(3, 5), torch.randn(3, 2, 5), ROWS)
    scores = batch_scores(encoded)
    assert scores.shape == (3, 6)
    for query in range(3):
        torch.testing.assert_close(scores[query, 2 * query : 2 * query + 2], encoded.scores[query])
        for other in range(3):
            for candidate in range(2):
                by_hand = sum(encoded.query[query, d] * encoded.document[other, candidate, d] for d in range(5))
                torch.testing.assert_close(scores[query, 2 * other + candidate], by_hand)


def test_repeated_marks_own_documents_in_others_columns():
    encoded = dual(torch.zeros(3, 1), torch.zeros(3, 2, 1), ROWS)
    assert repeated(encoded).tolist() == [
        [False, False, False, True, False, False],  # 4 again, as the second document of query 1
        [True, False, False, False, False, False],  # 4 again, as the first document of query 0
        [False, False, False, False, False, False],
    ]
