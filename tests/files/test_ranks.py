import pytest
import ranks
import torch

from distill.files.ranks import gather_batch, rank, world_size
from distill.vectors.search import search


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


def test_two_ranks_find_what_one_finds(two_ranks):
    """Each reads half of the documents; the rows and scores are those of one, down to ties and padding."""
    queries, documents, left_out = ranks.make_search()
    plain, without = search(queries, documents, 7), search(queries, documents, 7, left_out=left_out)
    few = search(queries, documents[:3], 7)
    for one, own in zip(two_ranks, ranks.SEARCHERS, strict=True):
        everything, nothing = slice(None), slice(0)
        expected = {
            "own": (plain, own),
            "own, one left out": (without, own),
            "all": (without, everything),
            "more than there are": (few, own),
            "none of one rank": (plain, own if own.start else nothing),
        }
        for name, (alone, rows) in expected.items():
            assert all(torch.equal(ours, theirs[rows]) for ours, theirs in zip(one["searches"][name], alone, strict=True)), name


def test_all_ranks_are_refused_where_one_cannot_read_its_share(two_ranks):
    assert two_ranks[0]["searches"]["refusal"].startswith("another rank could not search")
    assert two_ranks[1]["searches"]["refusal"].startswith("document vectors: row 30 ")
    assert two_ranks[0]["searches"]["error"].startswith("another rank could not search")
    assert two_ranks[1]["searches"]["error"] == "the disk is gone"


def test_batches_of_different_sizes_are_refused_on_all_ranks(two_ranks):
    message = "data.batch_size: the ranks chose 64 to 128 queries, as their GPUs differ: set it"
    assert [one["batches"] for one in two_ranks] == [message, message]
