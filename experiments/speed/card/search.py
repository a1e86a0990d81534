"""Exact search over documents on the card, in pinned memory of the host, or in ordinary memory, against a bare product and topk."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import distill
from card.device import Card
from card.report import EVALUATION, EVALUATION_SECONDS, OPERATIONS, SEARCH, Report
from card.world import World
from distill.files.device import free_memory

BLOCK = 1 << 28  # scores that the bare product holds at once
PART = 1 << 18  # documents made at once
OF_THE_CARD, OF_THE_HOST = 0.45, 0.40  # most of the free memory that documents may take; the host holds them twice


def fitting_rows(card: Card, rows: int, width: int) -> int:
    """How many documents in fp16 both memories hold, at most `rows`."""
    if card.simulated:
        return rows
    limits = [(free_memory(card.device), OF_THE_CARD), (free_memory(torch.device("cpu")), OF_THE_HOST)]
    return min(rows, *(int(free * share) // (2 * width) for free, share in limits if free is not None))


def make_documents(card: Card, rows: int, width: int) -> Tensor:
    """[rows, width] fp16 on the card, random directions."""
    documents = torch.empty(rows, width, dtype=torch.float16, device=card.device)
    for start in range(0, rows, PART):
        part = documents[start : start + PART]
        part.copy_(F.normalize(card.random(len(part), width, seed=start), dim=1))
    return documents


@torch.no_grad()
def search_bare(queries: Tensor, documents: Tensor, k: int) -> Tensor:
    """Rows [Q, k] by fp16 products and topk, block after block.

    This is what a search does at the least: scores are rounded to fp16, and equal ones have no order.
    """
    size = max(k, BLOCK // len(queries))
    best, rows = [], []
    for start in range(0, len(documents), size):
        scores = queries.half() @ documents[start : start + size].T
        top = scores.topk(min(k, scores.shape[1]), dim=1)
        best.append(top.values)
        rows.append(top.indices + start)
    places = torch.cat(best, 1).topk(k, dim=1).indices
    return torch.cat(rows, 1).gather(1, places)


def measure(card: Card, world: World, report: Report) -> None:
    sizes = world.sizes
    rows, width = fitting_rows(card, sizes.corpus, sizes.corpus_width), sizes.corpus_width
    scaled = {} if rows == sizes.corpus else {"scaled": f"of {rows:,} documents, as memory holds no more"}
    asked = [F.normalize(card.random(count, width, seed=-1), dim=1) for count in sizes.searches]
    resident = make_documents(card, rows, width)
    bare: list[float] = []  # seconds by number of queries
    for queries in asked:
        count, row = len(queries), f"{len(queries):,} queries"
        bare.append(card.seconds(partial(search_bare, queries, resident, sizes.top)))
        report.add("search", row, "bare product and topk", count / bare[-1], "queries/s", **scaled)
        seconds = card.seconds(partial(distill.search, queries, resident, sizes.top))
        bound = {"bound": count / bare[-1], "bound_is": "bare product and topk", "least_share": SEARCH}
        report.add(
            "search", row, "resident", count / seconds, "queries/s", **bound, **scaled, **{OPERATIONS: 2 * count * rows * width / seconds}
        )
        if count == sizes.searches[0]:
            whole = seconds * sizes.corpus / rows
            report.add("search", EVALUATION, "resident", whole, "s", most=EVALUATION_SECONDS, **scaled)
    ordinary = resident.cpu()
    del resident
    rate = card.copy_rate()
    copying = ordinary.numel() * ordinary.element_size() / rate  # seconds
    for column in ("streamed", "pinned"):
        documents = ordinary.numpy() if column == "streamed" else card.pin(ordinary)
        for queries, computing in zip(asked, bare, strict=True):
            least = max(computing, copying)  # which overlap
            seconds = card.seconds(partial(distill.search, queries, documents, sizes.top))
            bound = {"bound": len(queries) / least, "bound_is": "the longer of copying from pinned memory and computing"}
            more = {"copy_rate": rate, "least_share": SEARCH, **bound, **scaled}
            report.add("search", f"{len(queries):,} queries", column, len(queries) / seconds, "queries/s", **more)
