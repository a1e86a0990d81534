"""Search on a GPU: the rows and scores of the CPU, wherever the documents lie, and how often the host waits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from simulated_gpu import SimulatedGpu

from distill.records import BadInput
from distill.vectors import rounding
from distill.vectors.resident import CORPORA, keep_corpora
from distill.vectors.search import search
from distill.vectors.store import TeacherStore, VectorStore

QUERIES, K, CHUNK = 9, 12, 16
BLOCK_WAITS = 2  # how many words hold candidates; how many candidates there are, and of the query with most
SEARCH_WAITS = 2  # whether the queries' numbers are finite, and the documents'


@pytest.fixture
def store(store_folder: Path) -> VectorStore:
    return TeacherStore(store_folder).documents


@pytest.fixture
def world(store: VectorStore) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Made on the CPU: queries, the store's vectors, and what the CPU finds of them."""
    vectors = torch.from_numpy(store[: len(store)])
    queries = vectors[:QUERIES].float()
    return queries, vectors, search(queries, store, K)


@pytest.mark.parametrize("place", ["store", "host", "array", "GPU"])
@pytest.mark.parametrize("are_rounded", [True, False])
def test_it_finds_what_the_cpu_finds(
    store: VectorStore, world: Any, gpu: SimulatedGpu, place: str, are_rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, vectors, expected = world
    if not are_rounded:
        monkeypatch.setattr(rounding, "has_fast_bf16", lambda device_type: False)
    documents = {"host": vectors, "array": vectors.numpy(), "GPU": vectors.cuda()}.get(place, store)
    asked = queries.cuda()
    gpu.waits.clear()
    scores, rows = search(asked, documents, K, CHUNK)
    check_waits(gpu, blocks=-(-len(store) // CHUNK))
    assert torch.equal(rows.cpu(), expected[1]) and torch.equal(scores.cpu(), expected[0])


def check_waits(gpu: SimulatedGpu, blocks: int) -> None:
    """No copy blocks and nothing is converted on the host; the thread that reads may wait, as it is a chunk ahead."""
    waits = Counter({wait: count for wait, count in gpu.waits.items() if not wait.place.endswith("stream.py:fill")})
    assert sum(waits.values()) <= SEARCH_WAITS + BLOCK_WAITS * blocks, waits
    assert {wait.kind for wait in gpu.waits} <= {"nonzero", "tolist", "item", "synchronize"}, gpu.waits


def test_a_kept_corpus_is_read_once(store: VectorStore, world: Any, gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, _, expected = world
    lengths: list[int] = []
    read = VectorStore.read

    def read_and_count(store: VectorStore, start: int, into: Any) -> None:
        lengths.append(len(into))
        read(store, start, into)

    monkeypatch.setattr(VectorStore, "read", read_and_count)
    asked = queries.cuda()
    with keep_corpora():
        for _ in range(3):
            gpu.waits.clear()
            _, rows = search(asked, store, K, CHUNK)
            check_waits(gpu, blocks=-(-len(store) // CHUNK))
            assert torch.equal(rows.cpu(), expected[1])
        assert len(CORPORA.documents) == 1
    assert not CORPORA.documents and sum(lengths) == len(store)


def test_a_number_that_is_none_is_found_at_the_end_and_named(world: Any, gpu: SimulatedGpu) -> None:
    queries, vectors, _ = world
    broken = vectors.clone()
    broken[50] = torch.nan
    with pytest.raises(BadInput, match="document vectors: row 50 "):
        search(queries.cuda(), broken, K, CHUNK)
