from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.data.loaders import EvaluationLoader, TrainingLoader, epoch_batches, make_collate
from distill.texts.tokens import TokenArrays

LENGTHS = np.random.default_rng(3).integers(2, 30, 150)


def rows_of(rows: np.ndarray) -> list[int]:
    """Stands in for a batch: the rows it was made of."""
    return rows.tolist()


def loader(batch_size: int = 8, rank: int = 0, world_size: int = 1, seed: int = 0, lengths: np.ndarray = LENGTHS, **more) -> TrainingLoader:
    return TrainingLoader(rows_of, lengths, batch_size, seed, rank, world_size, **more)


def test_a_batch_carries_its_rows_and_candidates():
    tokens = TokenArrays(np.arange(10, 16, dtype=np.int32), np.array([0, 1, 3, 6]), pad_id=0)
    batch = make_collate(tokens, np.array([[7, 8], [5, 6], [3, 4]]))(np.array([2, 0]))
    assert batch.queries.input_ids.tolist() == [[13, 14, 15], [10, 0, 0]]
    assert batch.query_rows.tolist() == [2, 0]
    assert batch.document_rows.tolist() == [[3, 4], [7, 8]]
    assert make_collate(tokens, np.empty((3, 0), np.int64))(np.array([1, 2])).document_rows.shape == (2, 0)
    assert batch.document_rows.dtype == torch.int64


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(1, 20), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_has_each_query_at_most_once(lengths, batch_size, seed, epoch):
    batches = epoch_batches(np.array(lengths, np.int64), batch_size, seed, epoch)
    assert batches.shape == (len(lengths) // batch_size, batch_size)
    assert len(np.unique(batches)) == batches.size
    assert np.isin(batches, np.arange(len(lengths))).all()


def test_an_epoch_is_the_same_for_the_same_seed_alone():
    first = epoch_batches(LENGTHS, 8, seed=1, epoch=2)
    np.testing.assert_array_equal(first, epoch_batches(LENGTHS, 8, seed=1, epoch=2))
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        assert not np.array_equal(first, epoch_batches(LENGTHS, 8, seed, epoch))


def test_every_query_is_met_though_a_remainder_is_left_out_of_an_epoch():
    left_out = [set(range(150)) - set(epoch_batches(LENGTHS, 8, 0, epoch).ravel().tolist()) for epoch in range(10)]
    assert {len(rows) for rows in left_out} == {150 % 8}
    assert not set.intersection(*left_out)


def test_batches_are_of_near_equal_length_in_random_order():
    batches = epoch_batches(LENGTHS, 10, seed=0, epoch=0)
    shortest, longest = LENGTHS[batches].min(axis=1), LENGTHS[batches].max(axis=1)
    order = np.argsort(shortest, kind="stable")
    order = order[np.argsort(longest[order], kind="stable")]
    assert (longest[order][:-1] <= shortest[order][1:]).all()  # sorted, the batches do not overlap
    assert not np.array_equal(order, np.arange(len(order)))


def test_two_ranks_see_together_what_one_sees():
    alone = list(loader(batch_size=64))
    ranks = [list(loader(batch_size=32, rank=rank, world_size=2)) for rank in (0, 1)]
    assert len(alone) == len(ranks[0]) == len(ranks[1]) == 2
    for together, *parts in zip(alone, *ranks, strict=True):
        assert [len(part) for part in parts] == [32, 32]
        assert sorted(parts[0] + parts[1]) == sorted(together)


def test_epochs_follow_one_another():
    training = loader()
    epochs = []
    for epoch in range(3):
        training.set_epoch(epoch)
        epochs.append(list(training))
    assert [len(epoch) for epoch in epochs] == [len(training)] * 3 == [18] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    np.testing.assert_array_equal(epochs[2], epoch_batches(LENGTHS, 8, 0, 2))


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_stop_within_an_epoch_continues_exactly(world_size):
    for rank in range(world_size):
        whole = loader(rank=rank, world_size=world_size)
        whole.set_epoch(1)
        expected = list(whole)

        stopped = loader(rank=rank, world_size=world_size)
        stopped.set_epoch(1)
        batches = iter(stopped)
        seen = [next(batches) for _ in range(5)]
        state = stopped.state_dict()

        resumed = loader(rank=rank, world_size=world_size)
        resumed.load_state_dict(state)
        resumed.set_epoch(1)  # the trainer says so again: the position must stay
        assert seen + list(resumed) == expected
        resumed.set_epoch(2)
        assert len(list(resumed)) == len(expected)


def test_a_batch_fetched_but_not_learnt_is_given_again():
    learnt = 3
    stopped = loader(batches_done=lambda: learnt)
    batches = iter(stopped)
    fetched = [next(batches) for _ in range(5)]
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert next(iter(resumed)) == fetched[3]


def test_a_state_goes_over_to_another_number_of_ranks():
    one = loader(batch_size=16)
    batches = iter(one)
    for _ in range(4):
        next(batches)
    state = one.state_dict()
    remaining = list(batches)
    parts = []
    for rank in range(2):
        part = loader(batch_size=8, rank=rank, world_size=2)
        part.load_state_dict(state)
        parts.append(list(part))
    assert [sorted(left + right) for left, right in zip(*parts, strict=True)] == [sorted(batch) for batch in remaining]


def test_fewer_queries_than_a_batch_still_make_one():
    lengths = np.arange(1, 8)
    parts = [list(loader(batch_size=32, rank=rank, world_size=2, lengths=lengths)) for rank in (0, 1)]
    assert [[len(batch) for batch in part] for part in parts] == [[3], [3]]
    assert len(set(parts[0][0] + parts[1][0])) == 6


def test_fewer_queries_than_ranks_make_none():
    assert len(loader(world_size=4, lengths=np.array([3, 3]))) == 0


def test_the_longest_texts_are_those_of_the_batches_that_come():
    ranks = [loader(rank=rank, world_size=2, draws=[(100, 60), (50, 70)]) for rank in range(2)]
    for rank in ranks:
        rank.set_epoch(3)
    longest = [rank.longest_texts().tolist() for rank in ranks]
    batches = [[*first, *second] for first, second in zip(*ranks, strict=True)]
    assert longest == [[LENGTHS[rows].max() for rows in batches]] * 2
    assert loader(lengths=np.empty(0, np.int64)).longest_texts().tolist() == []


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_evaluation_gives_each_row_exactly_once(world_size, count):
    lengths = LENGTHS[:count]
    loaders = [EvaluationLoader(rows_of, lengths, 7, rank, world_size) for rank in range(world_size)]
    batches = [batch for evaluation in loaders for batch in evaluation]
    assert sorted(row for batch in batches for row in batch) == list(range(count))
    assert max(map(len, batches), default=0) <= 7
    for evaluation in loaders:
        assert len(list(evaluation)) == len(evaluation)
        spans = sorted((lengths[list(batch)].min(), lengths[list(batch)].max()) for batch in evaluation)
        assert all(longest <= shortest for (_, longest), (shortest, _) in pairwise(spans))  # similar lengths share a batch


def test_the_first_batches_of_an_evaluation_are_of_all_lengths():
    lengths = np.arange(1000)
    first = [row for batch in list(EvaluationLoader(rows_of, lengths, 50, 0, 1))[:8] for row in batch]
    assert 300 < lengths[first].mean() < 700


def test_sets_are_mixed_in_the_proportions_asked_for():
    lengths = np.array([3] * 20 + [4] * 6 + [5] * 30)
    for epoch in range(3):
        rows = epoch_batches(lengths, 1, seed=0, epoch=epoch, draws=[(20, 20), (6, 15), (30, 10)]).ravel()
        first, second, third = (np.bincount(rows, minlength=56)[part] for part in (slice(0, 20), slice(20, 26), slice(26, 56)))
        assert first.tolist() == [1] * 20
        assert second.sum() == 15 and set(second.tolist()) == {2, 3}
        assert third.sum() == 10 and third.max() == 1


def test_a_small_share_is_drawn_anew_every_epoch():
    lengths = np.array([3] * 10 + [4] * 100)
    drawn = [set(epoch_batches(lengths, 1, 0, epoch, [(10, 10), (100, 10)]).ravel().tolist()) - set(range(10)) for epoch in range(2)]
    assert drawn[0] != drawn[1] and len(drawn[0]) == len(drawn[1]) == 10


def test_the_loader_is_as_long_as_what_is_drawn():
    loader = TrainingLoader(lambda rows: rows, np.full(110, 3), 8, draws=[(10, 10), (100, 30)])
    loader_rows = list(loader)
    assert len(loader) == len(loader_rows) == 5


def test_two_ranks_share_a_mix():
    """Each epoch other queries, between them those of one rank, and none twice."""
    draws, lengths = [(10, 10), (100, 30)], np.full(110, 3)
    loaders = [TrainingLoader(lambda rows: rows, lengths, 4, seed=0, rank=rank, world_size=2, draws=draws) for rank in (0, 1)]
    whole = TrainingLoader(lambda rows: rows, lengths, 8, seed=0, draws=draws)
    for epoch in range(2):
        for loader in (*loaders, whole):
            loader.set_epoch(epoch)
        first, second, together = (set(np.concatenate(list(loader)).tolist()) for loader in (*loaders, whole))
        assert not first & second and first | second == together and len(together) == 40


@pytest.mark.parametrize(("first", "then", "done"), [((8, 2), (8, 1), 3), ((8, 1), (8, 3), 5), ((16, 1), (5, 1), 4), ((4, 1), (16, 2), 7)])
def test_an_epoch_goes_on_with_other_batches(first, then, done):
    """Nothing twice, and less than one batch left out; then a third number of ranks goes on in the same way."""
    began = loader(first[0], world_size=first[1])
    rows = began.collate  # rows themselves
    seen = [rows(batch) for batch, _ in zip(whole(began), range(done), strict=False)]
    began.batches_done = lambda: done

    goes_on = loader(then[0], world_size=then[1])
    goes_on.load_state_dict(began.state_dict())
    assert goes_on.position == len(goes_on) - (len(LENGTHS) - done * began.global_batch) // goes_on.global_batch
    middle = goes_on.position + 2
    seen += whole(goes_on)[:2]
    goes_on.batches_done = lambda: middle

    ends = loader(10)
    ends.load_state_dict(goes_on.state_dict())
    seen += whole(ends)
    seen = np.concatenate(seen)
    assert len(set(seen.tolist())) == len(seen) > len(LENGTHS) - 10
    ends.set_epoch(1)
    np.testing.assert_array_equal(np.stack(whole(ends)), epoch_batches(LENGTHS, 10, 0, 1))


def whole(one: TrainingLoader) -> list[np.ndarray]:
    """The batches of all its ranks together, from where it stands."""
    batches = epoch_batches(one.lengths, one.global_batch, one.seed, one.epoch, one.draws, one.done)
    return list(batches[len(batches) - (len(one) - one.position) :])


def test_an_epoch_that_ended_stays_ended_on_other_ranks():
    ended = loader(16)  # 150 rows: 9 batches, 6 rows left over
    ended.batches_done = lambda: len(ended)
    other = loader(2)
    other.load_state_dict(ended.state_dict())
    assert list(other) == [] and other.position == len(other) == 75
