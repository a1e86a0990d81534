"""faiss indexes behind `search`: the exact answer from a flat one, most of it from the others, and what happens at the edges."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch

import distill.vectors.faiss_index
from distill.encoders.maker import Maker
from distill.files.device import computing_on
from distill.metrics.ranking import overlap
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors.faiss_index import TARGET_RECALL, describe_settings, faiss_index, save_index, try_gpu
from distill.vectors.search import search
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

faiss = pytest.importorskip("faiss", reason="install the extra `cpu`")

KINDS = ["flat", "ivf", "hnsw"]


def clustered(rows, seed, width=32, clusters=40, spread=0.15):
    """[rows, width] float16, normalised, around 40 centres that are the same for every seed."""
    centres = np.random.default_rng(99).normal(size=(clusters, width))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(clusters, size=rows)] / width**0.5 + spread * random.normal(size=(rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def documents():
    return clustered(4000, seed=0)


@pytest.fixture(scope="module")
def queries():
    return torch.from_numpy(clustered(200, seed=1)).float()


@pytest.fixture(scope="module")
def store(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "documents"
    writer = StoreWriter(folder, Ids.of(f"d{i}" for i in range(len(documents))), 32, Maker("m", "f"), texts=None)
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, documents[rows])
    writer.finish()
    return VectorStore(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind):
    queries, documents = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), np.array([[1, 1], [3, 0], [2, 5]], np.float16)
    scores, rows = search(queries, faiss_index(documents, kind), k=2)
    assert scores.tolist() == [[3, 2], [10, 2]]
    assert rows.tolist() == [[1, 2], [2, 0]]
    assert (scores.dtype, rows.dtype) == (torch.float32, torch.int64)


def test_flat_is_exact(store, queries):
    exact_scores, exact_rows = search(queries, store, 20)
    scores, rows = search(queries, faiss_index(store, "flat"), 20)
    torch.testing.assert_close(scores, exact_scores, rtol=0, atol=1e-6)
    # neighbours closer than fp32 can tell may change places
    neighbours = torch.minimum(
        -exact_scores.diff(dim=1, append=exact_scores[:, -1:] - 1), -exact_scores.diff(dim=1, prepend=torch.ones(200, 1))
    )
    assert torch.equal(rows[neighbours > 1e-6], exact_rows[neighbours > 1e-6])


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_others_find_most_and_score_it_exactly(store, documents, queries, kind):
    asked = clustered(300, seed=2)
    index = faiss_index(store, kind, asked)
    scores, rows = search(queries, index, 10)
    _, exact = search(queries, store, 10)
    assert overlap(exact, rows, 10).mean() >= TARGET_RECALL - 0.02  # tuned on other queries
    by_hand = (queries.numpy()[:, None].astype(np.float64) * documents[rows.numpy()]).sum(2)
    np.testing.assert_allclose(scores.numpy(), by_hand, atol=1e-5)  # fp16 is what was stored: nothing is lost
    assert (scores.diff(dim=1) <= 0).all()


def test_effort_is_the_least_power_of_two_that_reaches_the_recall(documents, monkeypatch):
    queries = clustered(300, seed=2)
    _, exact = search(torch.from_numpy(queries).float(), documents, 10)
    monkeypatch.setattr(distill.vectors.faiss_index, "LEAST_EFFORT", 1)
    index = faiss_index(documents, "ivf", queries)
    chosen = describe_settings(index, "ivf")["nprobe"]
    assert 1 < chosen < describe_settings(index, "ivf")["nlist"]

    def recall(nprobe):
        index.nprobe = nprobe
        return overlap(exact, search(torch.from_numpy(queries).float(), index, 10)[1], 10).mean()

    assert recall(chosen) >= TARGET_RECALL > recall(chosen // 2)


def test_a_recall_out_of_reach_ends_at_every_cluster(documents, monkeypatch):
    monkeypatch.setattr(distill.vectors.faiss_index, "TARGET_RECALL", 1.1)
    index = faiss_index(documents, "ivf")
    found = describe_settings(index, "ivf")
    assert found == {"nlist": 4000 // 39, "nprobe": 4000 // 39}


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_store_in_chunks_equals_an_array_at_once(store, documents, queries, kind, monkeypatch):
    whole = search(queries, faiss_index(documents, kind), 10)
    monkeypatch.setattr(distill.vectors.faiss_index, "NUMBERS_PER_CHUNK", 32 * 700)
    pieces = search(queries, faiss_index(store, kind), 10)
    assert torch.equal(whole[1], pieces[1])


def test_a_graph_grown_in_chunks_finds_most_too(store, queries, monkeypatch):
    monkeypatch.setattr(distill.vectors.faiss_index, "NUMBERS_PER_CHUNK", 32 * 700)  # its links depend on what is inserted together
    _, rows = search(queries, faiss_index(store, "hnsw", queries.numpy()), 10)
    assert overlap(search(queries, store, 10)[1], rows, 10).mean() >= TARGET_RECALL


@pytest.mark.parametrize("kind", KINDS)
def test_missing_hits_are_row_minus_one_and_minus_infinity(kind):
    scores, rows = search(torch.ones(1, 2), faiss_index(np.array([[1, 0], [1, 1]], np.float16), kind), k=4)
    assert rows.tolist() == [[1, 0, -1, -1]]
    assert scores.tolist() == [[2, 1, -torch.inf, -torch.inf]]


def test_clusters_too_few_for_k(documents):
    index = faiss_index(documents, "ivf")
    index.nprobe = 1
    scores, rows = search(torch.from_numpy(documents[:5]).float(), index, 2000)
    assert (rows[:, -1] == -1).all()
    assert torch.equal(rows < 0, scores == -torch.inf)


def test_nobody_asks(documents):
    scores, rows = search(torch.empty(0, 32), faiss_index(documents[:10], "flat"), 3)
    assert scores.shape == rows.shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_by_faiss_alone(documents, queries, kind, tmp_path):
    index = faiss_index(documents, kind)
    save_index(index, tmp_path / "documents.faiss")
    read = faiss.read_index(str(tmp_path / "documents.faiss"))
    assert describe_settings(read, kind) == describe_settings(index, kind)  # the effort travels with it
    for ours, theirs in zip(search(queries, index, 10), search(queries, read, 10), strict=True):
        assert torch.equal(ours, theirs)


def test_bad_input_is_refused(documents):
    index = faiss_index(documents[:100], "flat")
    with pytest.raises(BadInput, match="384 wide, document vectors 32"):
        search(torch.ones(1, 384), index, k=1)
    with pytest.raises(BadInput, match="k is 0"):
        search(torch.ones(1, 32), index, k=0)
    with pytest.raises(BadInput, match="query vectors: row 1 "):
        search(torch.stack([torch.ones(32), torch.full((32,), torch.nan)]), index, k=1)
    with pytest.raises(BadInput, match="not by inner product"):
        search(torch.ones(1, 32), faiss.IndexFlatL2(32), k=1)
    with pytest.raises(BadInput, match="no documents to index"):
        faiss_index(documents[:0], "ivf")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_vectors_that_are_not_numbers_are_refused_by_row(documents, kind, value, monkeypatch):
    monkeypatch.setattr(distill.vectors.faiss_index, "NUMBERS_PER_CHUNK", 32 * 70)
    bad = documents[:200].astype(np.float32)
    bad[150, 3] = value
    with pytest.raises(BadInput, match="document vectors: row 150 "):
        faiss_index(bad, kind)


def test_without_faiss_the_extra_is_named(documents, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(BadInput, match=r"faiss is not installed: pip install '.\[cpu\]'"):
        faiss_index(documents, "flat")


def test_two_packages_of_faiss_are_refused(documents, tmp_path, monkeypatch):
    for package, number in (("faiss_cpu", "1.15.1"), ("faiss_gpu", "1.15.0")):
        (tmp_path / f"{package}-{number}.dist-info").mkdir()
        (tmp_path / f"{package}-{number}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {number}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match=r"faiss-cpu and faiss-gpu are installed, .*: pip uninstall faiss-cpu faiss-gpu, then pip install"):
        faiss_index(documents, "flat")


NO_CODE = "import os, sys; print('Faiss assertion failed: CUDA error 209 no kernel image', file=sys.stderr, flush=True); os.abort()"


@pytest.mark.parametrize(
    ("trial", "reason"), [(NO_CODE, "CUDA error 209 no kernel image"), ("raise SystemExit(3)", "ended with code 3"), ("", "")]
)
def test_an_index_is_moved_to_a_gpu_that_a_trial_searched(documents, trial, reason, monkeypatch, caplog):
    """In a process of its own, which faiss ends where it has no code for the card; a stand-in for the GPU takes the index."""
    moved = []
    monkeypatch.setattr(distill.vectors.faiss_index, "TRIAL", trial)
    monkeypatch.setattr(distill.vectors.faiss_index, "_has_gpus", lambda: True)
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _, number, index: moved.append(number) or index, raising=False)
    try_gpu.cache_clear()
    with caplog.at_level(logging.WARNING, logger="distill"), computing_on(torch.device("cuda", 1)):
        index = distill.vectors.faiss_index._new_index(documents, "flat")
    index.add(documents.astype(np.float32))
    assert index.ntotal == len(documents) and moved == ([] if reason else [1])
    assert len(caplog.messages) == bool(reason) and all(reason in said and "made on the CPU" in said for said in caplog.messages)


def test_a_process_on_the_cpu_makes_its_index_there(documents, monkeypatch):
    monkeypatch.setattr(distill.vectors.faiss_index, "_has_gpus", lambda: True)
    with computing_on(torch.device("cpu")):
        assert isinstance(faiss_index(documents, "flat"), faiss.IndexFlat)


def test_exact_search_does_not_load_faiss():
    code = (
        "import sys, torch, distill.export.export; from distill.vectors.search import search; search(torch.ones(1, 2), torch.ones(3, 2), 1)"
    )
    found = subprocess.run([sys.executable, "-c", f"{code}; print('faiss' in sys.modules)"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.skipif(not getattr(faiss, "get_num_gpus", int)() or not hasattr(faiss, "StandardGpuResources"), reason="needs faiss on a GPU")
@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_on_a_gpu_and_saved_for_any_machine(documents, queries, kind, tmp_path):
    index = faiss_index(documents, kind)
    assert isinstance(index, faiss.GpuIndex)
    save_index(index, tmp_path / "documents.faiss")
    ours, theirs = (search(queries, each, 10)[1] for each in (index, faiss.read_index(str(tmp_path / "documents.faiss"))))
    assert (ours == theirs).float().mean() > 0.99
