"""What is kept of queries of each length, where some queries are judged and some are not."""

import numpy as np
import pytest

from distill.evaluation.measured_queries import MeasuredQueries
from distill.evaluation.query_lengths import measure_lengths


def test_a_judged_query_counts_for_its_own_length():
    """Of four queries the second, of 40 words, and the third, of 3, are judged; of another collection one of 5 words."""
    values = {"teacher": {"ndcg@10": np.array([0.8, 0.5])}, "student": {"ndcg@10": np.array([0.2, 0.5])}}
    first = MeasuredQueries(np.array([3, 40, 3, 40]), np.array([0.1, 0.2, 0.3, 0.4]), np.array([1, 2]), values)
    values = {"teacher": {"ndcg@10": np.array([1.0])}, "student": {"ndcg@10": np.array([0.5])}}
    second = MeasuredQueries(np.array([5]), np.array([0.5]), np.array([0]), values)
    groups = measure_lengths([first, second])
    assert set(groups) == {"1-8", "33-64"}
    short, long = groups["1-8"], groups["33-64"]
    assert (short["queries"], short["judged_queries"], long["queries"], long["judged_queries"]) == (3, 2, 2, 1)
    assert short["retention"]["ndcg@10"]["value"] == pytest.approx(1.0 / 1.5)
    assert long["retention"]["ndcg@10"] == {"value": 0.25, "ci95": [0.25, 0.25]}
    assert short["overlap@10"] == pytest.approx(0.3) and long["overlap@10"] == pytest.approx(0.3)
