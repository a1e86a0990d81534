"""Documents on their way to a GPU, and those that stay there: the right rows in the right order, however late the GPU is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from late_gpu import Event, LateGpu, Stream

from distill.encoders.maker import Maker
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors import resident, search, store_writer
from distill.vectors.resident import CORPORA, ResidentDocuments, keep_corpora
from distill.vectors.sharded import StoreRows, merge_shares
from distill.vectors.store import VectorStore
from distill.vectors.store_plan import shard_name
from distill.vectors.stream import ChunkBuffer, stream_chunks

ROWS, WIDTH = 100, 4
CPU = torch.device("cpu")
VECTORS = torch.randint(-2, 3, (ROWS, WIDTH), generator=torch.Generator().manual_seed(0)).half()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> LateGpu:
    return LateGpu(monkeypatch)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VectorStore:
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 30)
    ids = Ids.of([str(row) for row in range(ROWS)])
    writer = store_writer.StoreWriter(tmp_path / "store", ids=ids, width=WIDTH, maker=Maker("teacher", "t1"), texts="x1")
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, VECTORS.float().numpy()[rows])
    writer.finish()
    return VectorStore(tmp_path / "store")


@pytest.mark.parametrize("size", [1, 7, 50, 100, 1000])
def test_a_store_arrives_whole_and_in_order(store: VectorStore, gpu: LateGpu, size: int) -> None:
    assert torch.equal(gpu.read_late(stream_chunks(store, size, CPU)), VECTORS)


@pytest.mark.parametrize("documents", [VECTORS, VECTORS.numpy(), VECTORS.double().numpy()[:, ::-1], VECTORS.bfloat16()])
def test_arrays_and_tensors_arrive_as_they_are(documents: Any, gpu: LateGpu) -> None:
    expected = documents if isinstance(documents, torch.Tensor) else torch.from_numpy(documents.copy())
    found = gpu.read_late(stream_chunks(documents, 7, CPU))
    assert found.dtype == expected.dtype and torch.equal(found, expected)


def test_documents_arrive_in_the_inference_mode_of_a_trainer_too(store: VectorStore, gpu: LateGpu) -> None:
    kept = ResidentDocuments(store, CPU)
    with torch.inference_mode():
        assert torch.equal(gpu.read_late(stream_chunks(store, 7, CPU)), VECTORS)
        gpu.read_late(kept.chunks(30))
        started_here = ResidentDocuments(store, CPU)
    for documents in (kept, started_here):
        assert torch.equal(gpu.read_late(documents.chunks(30)), VECTORS)


def test_the_thread_that_reads_takes_no_memory_of_another_gpu(store: VectorStore, gpu: LateGpu) -> None:
    """A new thread begins on the first GPU, and comes back to it behind each block of `torch.cuda.stream`."""
    gpu.read_late(stream_chunks(store, 30, CPU))
    assert gpu.threads == [("read documents_0", CPU)]


def test_no_documents_are_no_chunks(gpu: LateGpu) -> None:
    assert list(stream_chunks(VECTORS[:0], 7, CPU)) == []


@pytest.mark.parametrize(
    ("part", "method"),
    [(Event, "synchronize"), (Stream, "wait_event"), (ChunkBuffer, "release")],
    ids=["the host's memory is filled too early", "no queue waits for the other", "the GPU's memory is filled too early"],
)
def test_each_part_of_the_order_is_needed(gpu: LateGpu, monkeypatch: pytest.MonkeyPatch, part: Any, method: str) -> None:
    monkeypatch.setattr(part, method, lambda *_: None)
    found = gpu.read_late(stream_chunks(np.arange(ROWS)[:, None], 7, CPU))
    assert found[:, 0].tolist() != list(range(ROWS))


def test_a_file_that_cannot_be_read_ends_the_search(store: VectorStore, gpu: LateGpu) -> None:
    chunks = stream_chunks(store, 30, CPU)
    next(chunks)
    (store.folder / shard_name(3)).unlink()
    with pytest.raises(BadInput, match="gone while it was read"):
        list(chunks)


@pytest.mark.parametrize("queries", [1, 9])
def test_streamed_and_resident_search_find_what_the_cpu_finds(
    store: VectorStore, gpu: LateGpu, monkeypatch: pytest.MonkeyPatch, queries: int
) -> None:
    """To the last row and score, with many ties."""
    asked = VECTORS[:queries].float()
    expected = search.search(asked, store, 12, chunk_documents=16)
    kept = ResidentDocuments(store, CPU)
    ways = {"streamed": stream_chunks, "to stay": lambda documents, size, device: kept.chunks(size)}
    for way in ("streamed", "to stay", "to stay"):  # the second time it is there
        monkeypatch.setattr(search, "read_chunks", ways[way])
        found = search.search(asked, store, 12, chunk_documents=16)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    monkeypatch.setattr(resident, "stream_chunks", None)  # from now on nothing is read
    assert torch.equal(search.search(asked, store, 12, chunk_documents=24)[1], expected[1])


def test_a_search_that_was_broken_off_leaves_nothing_half_there(store: VectorStore, gpu: LateGpu) -> None:
    kept = ResidentDocuments(store, CPU)
    next(kept.chunks(30))
    assert torch.equal(torch.cat([chunk.clone() for chunk in kept.chunks(30) if gpu.main.finish() is None]), VECTORS)
    assert torch.equal(torch.cat(list(kept.chunks(30))), VECTORS)


def test_a_corpus_stays_once_where_it_fits_until_the_outermost_block_ends(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    size = ROWS * WIDTH * 2  # bytes
    monkeypatch.setattr(resident, "free_memory", lambda device: 2 * size)
    assert CORPORA.find(store, CPU) is None  # nobody lets it stay
    with keep_corpora():
        with keep_corpora():
            kept = CORPORA.find(store, CPU)
            assert kept is not None
        assert CORPORA.find(VectorStore(store.folder), CPU) is kept  # opened again it is the same
        assert CORPORA.find(StoreRows(store, 0, 50), CPU) not in (None, kept)
        assert CORPORA.find(VECTORS, CPU) is None and CORPORA.find(VECTORS.numpy(), CPU) is None
    assert not CORPORA.documents
    for free in (2 * size - 1, None):
        monkeypatch.setattr(resident, "free_memory", lambda device, free=free: free)
        with keep_corpora():
            assert CORPORA.find(store, CPU) is None


def test_a_corpus_that_fits_in_no_one_piece_is_streamed(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(resident, "free_memory", lambda device: 1 << 30)
    monkeypatch.setattr(resident, "ResidentDocuments", refuse)
    with keep_corpora():
        assert CORPORA.find(store, CPU) is None


def test_rows_of_a_store_are_documents_of_their_own(store: VectorStore) -> None:
    part = StoreRows(store, 25, 65)
    np.testing.assert_array_equal(part[3:38], VECTORS.numpy()[28:63])
    into = np.empty((10, WIDTH), np.float16)
    part.read(30, into)
    np.testing.assert_array_equal(into, VECTORS.numpy()[55:65])
    assert (len(part), part.shape) == (40, (40, WIDTH))
    expected = search.search(VECTORS[:3].float(), VECTORS[25:65], 5)
    assert torch.equal(search.search(VECTORS[:3].float(), part, 5)[1], expected[1])


def test_shares_are_merged_by_hand() -> None:
    """Equal scores: the lower row first; padding last."""
    first = ([[5.0, 2.0, 2.0], [1.0, -torch.inf, -torch.inf]], [[3, 0, 1], [2, -1, -1]])
    second = ([[5.0, 4.0, 2.0], [-9.0, -torch.inf, -torch.inf]], [[10, 12, 11], [10, -1, -1]])
    scores, rows = merge_shares(torch.tensor([first[0], second[0]]), torch.tensor([first[1], second[1]]))
    assert scores.tolist() == [[5, 5, 4], [1, -9, -torch.inf]]
    assert rows.tolist() == [[3, 10, 12], [2, 10, -1]]
