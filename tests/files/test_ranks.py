import pytest
import ranks
import torch

from distill.files.ranks import gather_batch, rank, world_size


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(ranks.one_rank, args=(str(folder), 2), nprocs=2)
    return [torch.load(folder / f"{index}.pt") for index in range(2)]


def test_one_process_gathers_nothing():
    student, _ = ranks.make_batch("one_hot", slice(None), ranks.make_weight())
    assert gather_batch(student) is student
    assert (rank(), world_size()) == (0, 1)


def test_every_rank_knows_its_number(two_ranks):
    assert [(one["rank"], one["world_size"]) for one in two_ranks] == [(0, 2), (1, 2)]


@pytest.mark.parametrize("name", ranks.LOSSES)
def test_two_ranks_gather_the_batch_of_one(two_ranks, name):
    alone = ranks.loss_and_gradient(name, slice(None))
    for one in two_ranks:
        assert torch.equal(one["results"][name]["rows"], alone["rows"])
        assert torch.equal(one["results"][name]["relevant"], alone["relevant"])
        torch.testing.assert_close(one["results"][name]["query"], alone["query"])
        torch.testing.assert_close(one["results"][name]["loss"], alone["loss"])


@pytest.mark.parametrize("name", ranks.LOSSES)
def test_the_gradient_averaged_over_ranks_is_that_of_one_process(two_ranks, name):
    alone = ranks.loss_and_gradient(name, slice(None))["gradient"]
    parts = [one["results"][name]["gradient"] for one in two_ranks]
    assert alone.abs().max() > 1e-2
    assert not torch.allclose(parts[0], parts[1])  # each rank walked back into its own queries
    torch.testing.assert_close((parts[0] + parts[1]) / 2, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ranks.LOSSES)
def test_every_rank_has_the_whole_gradient_of_a_losss_own_weights(two_ranks, name):
    """So their average over ranks, which the trainer takes, is that of one process too."""
    alone = ranks.loss_and_gradient(name, slice(None))["own_gradient"]
    assert (len(alone) > 0) == (name == "own_head")
    for one in two_ranks:
        torch.testing.assert_close(one["results"][name]["own_gradient"], alone, atol=1e-6, rtol=0)
