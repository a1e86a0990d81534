"""What two ranks do in tests/files/test_ranks.py: in a file of its own, so that new processes can import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from distill.files.ranks import gather_batch, rank, world_size
from distill.losses import ContrastiveMatching, Loss, MarginMSE, OneHot, QueryMatching, ScoreDistillation, ScoreMSE, SimilarityMatching
from distill.modules.batch_defaults import refuse_unequal_batches
from distill.records import BadInput, Encoded
from distill.teachers.teacher import score_candidates
from distill.vectors.sharded import search_on_ranks, search_shares

QUERIES, CANDIDATES, INPUTS, WIDTH = 6, 3, 5, 4


class OwnHead(Loss):
    """Finds the teacher's vector of a query among those of the batch, through a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)
        with torch.no_grad():
            for seed, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))

    def forward(self, student: Encoded, teacher: Encoded) -> torch.Tensor:
        return F.cross_entropy(self.head(student.query) @ teacher.query.T, torch.arange(len(student.query)))


LOSSES: dict[str, Loss] = {
    "one_hot": OneHot(temperature=0.5),
    "score": ScoreDistillation(temperature=0.5),
    "margin_mse": MarginMSE(),
    "score_mse": ScoreMSE(),
    "similarity_matching": SimilarityMatching(),
    "contrastive_matching": ContrastiveMatching(temperature=0.5),
    "query_matching": QueryMatching(),
    "no_candidates": QueryMatching(distance="squared_l2"),
    "own_head": OwnHead(),
}


def make_batch(name: str, own: slice, weight: torch.Tensor) -> tuple[Encoded, Encoded]:
    """The student's and the teacher's part `own` of one batch; the student is `weight` [INPUTS, WIDTH]."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(QUERIES, INPUTS, generator=random, dtype=torch.float64)[own]
    teacher = torch.randn(QUERIES, WIDTH, generator=random, dtype=torch.float64)[own]
    vectors = torch.randn(10, WIDTH, generator=random, dtype=torch.float64)
    # the same documents come up in both halves of the batch
    rows = torch.stack([torch.randperm(10, generator=random)[:CANDIDATES] for _ in range(QUERIES)])[own]
    if name == "no_candidates":
        rows = rows[:, :0]
    # judged documents of a query come up in both halves too
    relevant = torch.stack([torch.tensor([(query + 1) % 10, (query + 5) % 10, -1]) for query in range(QUERIES)])[own]
    return score_candidates(inputs @ weight, vectors[rows], rows, relevant), score_candidates(teacher, vectors[rows], rows)


def make_weight() -> torch.Tensor:
    return torch.randn(INPUTS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()


def loss_and_gradient(name: str, own: slice) -> dict[str, torch.Tensor]:
    """What a rank computes of its part: the loss, the gradients of the student and of the loss's own weights, the gathered batch."""
    weight, loss = make_weight(), LOSSES[name]
    loss.zero_grad()
    student, teacher = (gather_batch(part) for part in make_batch(name, own, weight))
    value = loss(student, teacher)
    value.backward()
    assert weight.grad is not None and student.relevant_rows is not None
    own_gradients = [parameter.grad.flatten() for parameter in loss.parameters() if parameter.grad is not None]
    return {
        "loss": value.detach(),
        "gradient": weight.grad,
        "own_gradient": torch.cat([torch.empty(0, dtype=torch.float64), *own_gradients]),
        "query": student.query.detach(),
        "rows": student.document_rows,
        "relevant": student.relevant_rows,
    }


SEARCHERS = slice(0, 3), slice(3, 10)  # queries of each of two ranks


def make_search() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten queries, 41 documents, most of whose scores are tied, and a document that each query leaves out."""
    random = torch.Generator().manual_seed(2)
    queries = torch.randint(-1, 2, (10, WIDTH), generator=random).float()
    documents = torch.randint(-1, 2, (41, WIDTH), generator=random).half()
    return queries, documents, torch.randint(-1, 41, (10,), generator=random)


class BrokenDisk:
    """The documents of `make_search`, of which only the first 20 can be read."""

    shape, identity = (41, WIDTH), "broken"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        if rows.stop > 20:
            raise OSError("the disk is gone")
        return make_search()[1][rows].numpy()

    def read(self, start: int, into: np.ndarray) -> None:
        into[:] = self[start : start + len(into)]


def search_together(own: slice) -> dict[str, Any]:
    """What a rank is told of its queries, of all, of more documents than there are, and where the second rank's share is broken."""
    queries, documents, left_out = make_search()
    broken = documents.clone()
    broken[30] = torch.nan
    found: dict[str, Any] = {
        "own": search_on_ranks(queries[own], documents, 7),
        "own, one left out": search_on_ranks(queries[own], documents, 7, left_out[own].numpy()),
        "all": search_shares(queries, documents.numpy(), 7, left_out),
        "more than there are": search_on_ranks(queries[own], documents[:3], 7),
        "none of one rank": search_on_ranks(queries[own] if own.start else queries[:0], documents, 7),
    }
    try:
        search_on_ranks(queries[own], broken, 7)
    except BadInput as error:
        found["refusal"] = str(error)
    try:
        search_on_ranks(queries[own], BrokenDisk(), 7)
    except (BadInput, OSError) as error:
        found["error"] = str(error)
    return found


def one_rank(index: int, folder: str, world: int) -> None:
    """Leaves `RANK.pt` in `folder`: what this rank computed."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{Path(folder) / 'meeting'}", rank=index, world_size=world)
    share = QUERIES // world
    results = {name: loss_and_gradient(name, slice(index * share, (index + 1) * share)) for name in LOSSES}
    left = {"rank": rank(), "world_size": world_size(), "results": results, "searches": search_together(SEARCHERS[index])}
    refuse_unequal_batches(64, torch.device("cpu"))
    try:
        refuse_unequal_batches(64 * (1 + index), torch.device("cpu"))
    except BadInput as error:
        left["batches"] = str(error)
    torch.save(left, Path(folder) / f"{index}.pt")
    dist.destroy_process_group()
