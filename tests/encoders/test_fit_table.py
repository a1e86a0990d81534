import numpy as np
import pytest

from distill.encoders.fit_table import fit_token_table, mean_matrix


@pytest.mark.parametrize("strength", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("width", [3, 130])
def test_it_solves_the_ridge_regression(width, strength):
    random = np.random.default_rng(0)
    token_ids = [random.integers(0, 7, size=length).tolist() for length in random.integers(0, 6, size=40)]
    targets, start = random.standard_normal((40, width)), random.standard_normal((9, width))
    means = np.array([[ids.count(token) / max(1, len(ids)) for token in range(9)] for ids in token_ids])  # [N, V]
    np.testing.assert_allclose(mean_matrix(token_ids, 9).toarray(), means, atol=1e-6)
    expected = np.linalg.solve(means.T @ means + strength * np.eye(9), means.T @ targets + strength * start)
    table = fit_token_table(token_ids, targets, start, strength)
    np.testing.assert_allclose(table, expected, atol=1e-3)
    np.testing.assert_array_equal(table[7:], start[7:])  # tokens that no text has


def test_without_texts_or_tokens_the_table_stays_as_it_is():
    start = np.ones((4, 2), np.float32)
    for token_ids, targets in (([], np.empty((0, 2))), ([[], []], np.ones((2, 2)))):
        table = fit_token_table(token_ids, targets.astype(np.float32), start)
        np.testing.assert_array_equal(table, start)
        assert table is not start and table.dtype == np.float32
