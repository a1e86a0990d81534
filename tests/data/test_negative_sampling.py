"""Negatives by hand: never a known positive, others every epoch, the same whoever draws them."""

import numpy as np
import pytest

from distill.data.negative_sampling import NegativeSampler
from distill.records import BadInput
from distill.teachers.negatives import TrainingPairs


def draw(examples: TrainingPairs, known: list[tuple[int, int]], documents: int, count: int, seed: int = 0) -> NegativeSampler:
    queries, rows = (np.array(side, np.int64) for side in zip(*known, strict=True))
    return NegativeSampler(examples, (queries, rows), documents, count, seed)


def test_pools_lose_known_positives_and_are_drawn_first():
    examples = TrainingPairs(np.array([0, 0, 1]), np.array([3, 4, 5]), np.array([[4, 3, 7, 8], [3, 4, 7, -1], [3, 9, -1, -1]]))
    sampler = draw(examples, [(0, 3), (0, 4), (1, 5)], documents=10, count=2)
    assert sampler.pools.tolist() == [[-1, -1, 7, 8], [-1, -1, 7, -1], [3, 9, -1, -1]]
    for epoch in range(20):
        rows = sampler.draw_candidates(np.array([0, 1, 2]), epoch)
        assert rows[:, 0].tolist() == [3, 4, 5]
        assert set(rows[0, 1:]) == {7, 8} and set(rows[2, 1:]) == {3, 9}
        assert rows[1, 1] == 7 and rows[1, 2] not in (3, 4, 7)


def test_all_that_is_relevant_to_a_query_travels_with_it():
    examples = TrainingPairs(np.array([0, 2, 0]), np.array([3, 5, 4]), np.empty((3, 0), np.int64))
    sampler = draw(examples, [(0, 4), (0, 3), (0, 9), (2, 1)], documents=10, count=1)
    # an example's own positive is known even where no judgment says so, as in a file of mined negatives
    assert sampler.relevant.rows_for(np.array([2, 0, 1])).tolist() == [[1, 5, -1], [3, 4, 9], [-1, -1, -1]]
    assert sampler.relevant.rows_for(np.array([1])).tolist() == [[-1, -1, -1]]  # as wide on every rank


def test_random_negatives_are_every_other_document_and_differ_by_epoch():
    examples = TrainingPairs(np.array([0]), np.array([2]), np.empty((1, 0), np.int64))
    sampler = draw(examples, [(0, 2), (0, 6)], documents=8, count=3)
    drawn = [sampler.draw_candidates(np.array([0]), epoch)[0, 1:].tolist() for epoch in range(60)]
    assert all(len(set(rows)) == 3 for rows in drawn)
    assert {row for rows in drawn for row in rows} == {0, 1, 3, 4, 5, 7}
    assert len({tuple(rows) for rows in drawn}) > 20


def test_a_draw_depends_on_seed_epoch_and_example_alone():
    examples = TrainingPairs(np.arange(6), np.arange(6), np.empty((6, 0), np.int64))
    sampler, again, other = (draw(examples, [(0, 0)], 50, 4, seed) for seed in (0, 0, 1))
    together = sampler.draw_candidates(np.arange(6), 3)
    assert np.array_equal(np.concatenate([again.draw_candidates(np.array([i]), 3) for i in (5, 3, 1)]), together[[5, 3, 1]])
    assert not np.array_equal(other.draw_candidates(np.arange(6), 3), together)


def test_a_corpus_too_small_is_refused():
    examples = TrainingPairs(np.array([0]), np.array([2]), np.empty((1, 0), np.int64))
    with pytest.raises(BadInput, match="negatives_per_query: 3, but the corpus has 4 documents, up to 2 of them relevant"):
        draw(examples, [(0, 2), (0, 3)], documents=4, count=3)


def test_no_negatives_is_a_choice_too():
    examples = TrainingPairs(np.array([0, 1]), np.array([2, 0]), np.empty((2, 0), np.int64))
    assert draw(examples, [(0, 2)], 3, 0).draw_candidates(np.array([1, 0]), 0).tolist() == [[0], [2]]
