"""Bootstrap intervals: exact cases, a known distribution, how often they hold the truth."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from distill.metrics import retention
from distill.metrics.retention import Interval, bootstrap_mean, bootstrap_of_means, bootstrap_ratio, randomisation_test
from distill.records import BadInput


def test_a_constant_share_has_no_uncertainty():
    teacher = torch.tensor([0.1, 0.9, 0.5, 0.0, 1.0])
    assert bootstrap_ratio(0.5 * teacher, teacher) == pytest.approx((0.5, 0.5, 0.5))


def test_two_queries_by_hand():
    # draws of two from {0, 1}: the mean is 0, 1/2 or 1 with 1/4, 1/2, 1/4; the ends of the 95% interval are the outer two
    assert bootstrap_mean([0.0, 1.0]) == (0.5, 0.0, 1.0)
    # paired: teacher 1 on both, so the ratio is the student's mean
    assert bootstrap_ratio([0.0, 1.0], [1.0, 1.0]) == (0.5, 0.0, 1.0)


def test_resamples_without_a_teacher_score_are_left_out():
    # the second query twice has no ratio; the first once or twice has ratio 1/2
    assert bootstrap_ratio([0.5, 0.0], [1.0, 0.0]) == (0.5, 0.5, 0.5)


def test_pairing_narrows_the_interval():
    generator = np.random.default_rng(0)
    teacher = generator.random(100)
    paired = bootstrap_ratio(0.9 * teacher + 0.02 * generator.random(100), teacher)
    unpaired = bootstrap_ratio(0.9 * generator.permutation(teacher), teacher)
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


def test_mean_interval_is_the_normal_one():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    mean, low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.02)


def test_mean_interval_of_few_queries_is_students():
    values = np.random.default_rng(1).normal(3, 2, size=(200, 10))
    half = 2.262 * values.std(1, ddof=1) / np.sqrt(10)  # t of 9 degrees of freedom; without it the interval is a sixth narrower
    found = [bootstrap_mean(row, resamples=4000) for row in values]
    assert np.median([(one.high - one.low) / 2 for one in found] / half) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("queries", "trials"), [(50, 1000), (200, 500)])
def test_intervals_hold_the_true_ratio_95_times_in_100(queries, trials):
    generator, held = np.random.default_rng(2), 0
    for _ in range(trials):
        teacher = generator.random(queries)  # mean 1/2
        student = teacher * generator.uniform(0.6, 1.0, size=queries)  # true ratio 0.8
        interval = bootstrap_ratio(student, teacher, resamples=1000)
        held += interval.low <= 0.8 <= interval.high
    assert 0.93 <= held / trials <= 0.97, held / trials


def test_randomisation_by_hand():
    # all three differences are 1: of the 8 choices of sign, two put the sum at 3 or -3
    assert randomisation_test([1, 1, 1], [0, 0, 0], 20_000) == pytest.approx(2 / 8, abs=0.01)
    # differences 1, 1, -1, 0: the sum is 1, and no choice of signs for three ones sums to less
    assert randomisation_test([1, 1, 0, 1], [0, 0, 1, 1]) == 1
    assert randomisation_test([0.5, 0.7], [0.5, 0.7]) == 1


def test_randomisation_finds_a_real_difference():
    generator = np.random.default_rng(3)
    teacher = generator.random(200)
    assert randomisation_test(teacher - 0.05 + 0.1 * generator.normal(size=200), teacher) < 0.001


def test_randomisation_calls_equal_systems_different_5_times_in_100():
    generator, called = np.random.default_rng(4), 0
    for _ in range(1000):
        hard = generator.random(100)  # what a query is like for both
        one, other = (np.clip(hard + 0.2 * generator.normal(size=100), 0, 1) for _ in range(2))
        called += randomisation_test(one, other, 500) <= 0.05
    assert 0.03 <= called / 1000 <= 0.07


def test_the_result_does_not_depend_on_how_much_is_in_memory_at_once(monkeypatch):
    one, other = np.random.default_rng(5).random((2, 10))
    whole = bootstrap_ratio(one, other, 100), bootstrap_mean(one, 100), randomisation_test(one, other, 100)
    monkeypatch.setattr(retention, "VALUES_AT_ONCE", 70)  # 7 resamples at a time: 15 chunks, the last of 2
    assert (bootstrap_ratio(one, other, 100), bootstrap_mean(one, 100), randomisation_test(one, other, 100)) == whole


def test_one_query_is_its_own_interval():
    assert bootstrap_mean([0.3]) == (0.3, 0.3, 0.3)
    assert bootstrap_ratio([0.2], [0.8]) == (0.25, 0.25, 0.25)


def test_an_interval_reads_as_percent():
    assert str(Interval(0.971, 0.958, 0.984)) == "97.1% [95.8%, 98.4%]"
    assert f"{Interval(0.971, 0.958, 0.984):.2f}" == "0.97 [0.96, 0.98]"


def test_what_is_not_torchmetrics_is_imported_without_scipy():
    code = "import sys, distill.metrics.retention, distill.metrics.ranking, distill.metrics.trec_runs; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_same_seed_same_interval():
    values = np.random.default_rng(3).random(50)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [([1, 0], [0, 0], "teacher scores 0"), ([1], [1, 1], "1 and 2 queries"), ([], [], "0 and 0 queries")],
)
def test_no_ratio_is_an_error_that_says_why(student, teacher, message):
    with pytest.raises(BadInput, match=message):
        bootstrap_ratio(student, teacher)


def test_a_suite_of_one_collection_has_the_interval_of_its_queries():
    generator = np.random.default_rng(0)
    teacher = generator.uniform(0.2, 1, 12)
    student = teacher * generator.uniform(0.5, 1.1, 12)
    alone, suite = bootstrap_ratio(student, teacher), bootstrap_of_means([[student, teacher]])
    assert suite.value == pytest.approx(alone.value)
    assert (suite.low, suite.high) == pytest.approx((alone.low, alone.high), abs=0.02)


def test_a_suites_interval_is_over_its_collections():
    """Half is kept of one collection and three quarters of the other, of each query alike: a draw of two has a mean of .5, .625 or .75."""
    half, most = [[0.5] * 9, [1.0] * 9], [[0.75] * 9, [1.0] * 9]
    assert bootstrap_of_means([half, most]) == (0.625, 0.5, 0.75)
    assert bootstrap_of_means([half, half]) == (0.5, 0.5, 0.5)


def test_a_suites_interval_holds_the_mean_of_all_such_collections():
    """What is kept varies from collection to collection, by more than the queries of one tell."""
    generator, held, trials = np.random.default_rng(8), 0, 300
    for _ in range(trials):
        collections = []
        for kept in generator.normal(0.85, 0.08, 7):
            teacher = generator.uniform(0.2, 1, 60)
            collections.append([teacher * generator.normal(kept, 0.2, 60), teacher])
        interval = bootstrap_of_means(collections, resamples=500)
        held += interval.low <= 0.85 <= interval.high
    assert 0.91 <= held / trials <= 0.985, held / trials
