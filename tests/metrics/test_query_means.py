"""Means over batches and ranks: each query counts once."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import MetricCollection

from distill.metrics.query_means import MRR, NDCG, MeanCosine, Overlap, Recall, judged_metrics
from distill.metrics.ranking import ranking_metrics
from distill.records import BadInput


def mean(metric, *batches):
    for batch in batches:
        metric.update(*map(torch.tensor, batch))
    return metric.compute().item()


def test_means_by_hand():
    grades = [[1, 0, 0], [0, 0, 1]]
    assert mean(MRR(10), (grades, grades)) == pytest.approx((1 + 1 / 3) / 2)
    assert mean(Recall(2), ([[2, 0, 1], [0, 0, 1]], [[2, 1, 3, 2], [1, 0, 0, 0]])) == (1 / 4 + 0) / 2
    assert mean(NDCG(3), ([[1, 0, 0], [0, 1, 0]], [[1], [1]])) == pytest.approx((1 + 1 / math.log2(3)) / 2, abs=1e-12)
    assert mean(Overlap(2), ([[1, 2, 3], [4, 5, 6]], [[2, 1, 9], [5, 9, 4]])) == (1 + 0.5) / 2
    assert mean(MeanCosine(), ([[2.0, 0.0], [1.0, 1.0]], [[5.0, 0.0], [1.0, 0.0]])) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_batches_of_unlike_sizes_count_each_query_once():
    first, second = [[1, 0], [0, 1]], [[0, 0]]
    assert mean(MRR(10), (first, first), (second, second)) == (1 + 0.5 + 0) / 3


def test_a_query_without_relevant_documents_is_counted():
    ranked, judged = [[2, 0], [0, 0], [-1, 0]], [[2, 0], [0, 0], [-1, -1]]
    for metric in (MRR(10), Recall(10), NDCG(10)):
        assert mean(metric, (ranked, judged)) == pytest.approx(1 / 3), metric.name


def test_names():
    assert [metric.name for metric in (MRR(10), Recall(100), NDCG(10), Overlap(10), MeanCosine())] == [
        "mrr@10", "recall@100", "ndcg@10", "overlap@10", "cosine"
    ]  # fmt: skip


def test_the_judged_metrics_are_those_of_every_evaluation():
    ranked, judged = torch.tensor([[0, 2, 1], [1, 0, 0]]), torch.tensor([[2, 1, 3], [1, 0, 0]])
    expected = {name: values.mean().item() for name, values in ranking_metrics(ranked, judged, 2).items()}
    metrics = judged_metrics(relevant_from=2)
    assert {name: mean(metric, (ranked.tolist(), judged.tolist())) for name, metric in metrics.items()} == pytest.approx(expected)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(BadInput, match="k is 0"):
        NDCG(0)
    with pytest.raises(BadInput, match="relevant_from is 0"):
        Recall(10, relevant_from=0)


def test_half_precision_modules_keep_float64_sums():
    metric = torch.nn.ModuleList([MRR(10)]).bfloat16()[0]
    metric.update(torch.tensor([[0, 0, 1]]), torch.tensor([[1]]))
    assert metric.compute().dtype == torch.float64
    assert metric.compute().item() == 1 / 3


def test_a_collection_keeps_apart_metrics_that_agree_on_the_first_batch():
    metrics = MetricCollection({"mrr": MRR(10), "mrr2": MRR(10, relevant_from=2), "ndcg": NDCG(10), "recall": Recall(10)})
    metrics.update(torch.tensor([[3, 0]]), torch.tensor([[3, 0]]))  # all 1
    metrics.update(torch.tensor([[1, 0]]), torch.tensor([[3, 1]]))
    expected = {"mrr": 1, "mrr2": 0.5, "ndcg": (1 + 1 / (3 + 1 / math.log2(3))) / 2, "recall": 0.75}
    assert {name: value.item() for name, value in metrics.compute().items()} == pytest.approx(expected)


def random_grades():
    generator = torch.Generator().manual_seed(7)
    return torch.randint(-1, 4, (40, 30), generator=generator), torch.randint(-1, 4, (40, 50), generator=generator)


def measure_on_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    ranked, judged = random_grades()
    mine = slice(0, 11) if rank == 0 else slice(11, None)
    metrics = [MRR(10, 3), Recall(10), NDCG(10)]
    for metric in metrics:
        metric.update(ranked[mine], judged[mine])
    torch.save([metric.compute().item() for metric in metrics], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_with_unlike_shards_equal_one(tmp_path):
    mp.spawn(measure_on_rank, args=(tmp_path,), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = [mean(metric, [part.tolist() for part in random_grades()]) for metric in (MRR(10, 3), Recall(10), NDCG(10))]
    assert ranks[0] == ranks[1] == pytest.approx(whole, abs=1e-12)
