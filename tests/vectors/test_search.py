"""Exact search against a full sort, with ties, odd chunks, mixed precision around it and vectors that are not numbers."""

import numpy as np
import pytest
import torch

import distill.files.device
import distill.vectors.search
from distill.records import BadInput
from distill.vectors.search import search


def by_full_sort(queries, documents, k):
    """(scores, rows) by definition: score descending, then row ascending."""
    scores = queries.double() @ documents.double().T
    order = scores.sort(dim=1, descending=True, stable=True)
    return order.values[:, :k].float(), order.indices[:, :k]


def small_integers(rows, width=4, seed=0):
    """[rows, width] of -1, 0, 1: products are exact and mostly tied."""
    return torch.randint(-1, 2, (rows, width), generator=torch.Generator().manual_seed(seed)).float()


def text_like(rows, seed, width=64):
    """[rows, width] normalised, with the uneven spectrum of text embeddings."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.logspace(0, -1.2, width)
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator) * spectrum + 0.3 * spectrum, dim=1)


def test_by_hand():
    queries, documents = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [3.0, 0.0], [2.0, 5.0]])
    scores, rows = search(queries, documents, k=2)
    assert scores.tolist() == [[3, 2], [10, 2]]
    assert rows.tolist() == [[1, 2], [2, 0]]
    assert (scores.dtype, rows.dtype) == (torch.float32, torch.int64)


def test_arrays_in_arrays_out():
    queries, documents = small_integers(9), small_integers(200, seed=1)
    scores, rows = search(queries.numpy().astype(np.float16), documents.numpy(), 5)
    assert isinstance(scores, np.ndarray) and isinstance(rows, np.ndarray)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    expected_scores, expected_rows = by_full_sort(queries, documents, 5)
    np.testing.assert_array_equal(rows, expected_rows.numpy())
    np.testing.assert_array_equal(scores, expected_scores.numpy())
    read_only = queries.numpy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(search(read_only, documents, 5)[1], rows)


@pytest.mark.parametrize("k", [1, 3, 10, 64, 200])
@pytest.mark.parametrize("chunk_documents", [1, 7, 64, 1000])
def test_ties_go_to_the_lower_row_within_and_across_chunks_and_at_the_last_place(k, chunk_documents):
    queries, documents = small_integers(9), small_integers(200, seed=1)
    scores, rows = search(queries, documents, k, chunk_documents)
    expected_scores, expected_rows = by_full_sort(queries, documents, k)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(scores, expected_scores)


def test_all_tied():
    _, rows = search(torch.ones(3, 2), torch.ones(500, 2), k=5, chunk_documents=100)
    assert rows.tolist() == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("descending", [True, False])
def test_documents_stored_best_or_worst_first(descending):
    documents = torch.arange(1000.0).sort(descending=descending).values[:, None]
    scores, rows = search(torch.ones(2, 1), documents, k=10, chunk_documents=64)
    assert scores[0].tolist() == list(range(999, 989, -1))
    assert torch.equal(rows, by_full_sort(torch.ones(2, 1), documents, 10)[1])


def test_blocks_of_queries(monkeypatch):
    monkeypatch.setitem(distill.vectors.search.SCORES_PER_BLOCK, "cpu", 130)  # 2 queries of 64 documents at a time
    queries, documents = small_integers(9), small_integers(200, seed=1)
    assert torch.equal(search(queries, documents, 5, chunk_documents=64)[1], by_full_sort(queries, documents, 5)[1])


def test_fewer_documents_than_k_are_padded():
    scores, rows = search(torch.ones(1, 1), torch.tensor([[1.0], [2.0]]), k=4, chunk_documents=1)
    assert rows.tolist() == [[1, 0, -1, -1]]
    assert scores.tolist() == [[2, 1, -torch.inf, -torch.inf]]


@pytest.mark.parametrize(("queries", "documents"), [(0, 5), (5, 0)])
def test_nothing_to_search(queries, documents):
    _, rows = search(torch.ones(queries, 3), torch.ones(documents, 3), k=2)
    assert rows.tolist() == [[-1, -1]] * queries


def test_equals_a_full_sort_on_text_like_vectors():
    queries, documents = text_like(200, seed=0), text_like(5000, seed=1)
    scores, rows = search(queries, documents, k=100, chunk_documents=1024)
    expected_scores, expected_rows = by_full_sort(queries, documents, 100)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-6)
    # fp32 has about 1e-7 to tell neighbours apart: only those that close may change places
    swapped = rows != expected_rows
    assert swapped.float().mean() < 0.002
    gathered = (queries.double()[:, None] * documents.double()[rows]).sum(2).float()
    torch.testing.assert_close(gathered[swapped], expected_scores[swapped], rtol=0, atol=1e-6)


def test_reads_a_read_only_memory_map_of_fp16(tmp_path):
    documents = text_like(300, seed=1).half().numpy()
    np.save(tmp_path / "vectors.npy", documents)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    queries = text_like(5, seed=0)
    for stored in (mapped, documents, torch.from_numpy(documents), documents.astype(np.float32)):
        assert torch.equal(search(queries, stored, 10, chunk_documents=128)[1], search(queries, mapped, 10, chunk_documents=128)[1])
    assert torch.equal(search(queries, mapped, 10)[1], by_full_sort(queries, torch.from_numpy(documents), 10)[1])


def test_reads_bf16_vectors():
    queries, documents = small_integers(3), small_integers(50, seed=1)
    assert torch.equal(search(queries.bfloat16(), documents.bfloat16(), 5)[1], by_full_sort(queries, documents, 5)[1])


@pytest.mark.parametrize("setting", ["highest", "high", "medium"])
def test_the_precision_of_training_neither_leaks_in_nor_out(setting):
    queries, documents = text_like(20, seed=0), text_like(2000, seed=1)
    plain = search(queries, documents, 50)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(setting)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = search(queries, documents, 50)
        assert torch.get_float32_matmul_precision() == setting
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(plain[0], mixed[0])
    assert torch.equal(plain[1], mixed[1])


def test_the_precision_is_restored_after_an_error():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(BadInput):
        search(torch.ones(1, 2), torch.full((3, 2), torch.nan), k=1)
    assert torch.get_float32_matmul_precision() == before


def test_the_quick_precision_finds_the_same_rows(monkeypatch):
    queries, documents = text_like(200, seed=2), text_like(5000, seed=3)
    quick = search(queries, documents, 10)
    monkeypatch.setattr(distill.files.device, "_medium_is_exact", lambda: False)
    plain = search(queries, documents, 10)
    assert (quick[1] == plain[1]).float().mean() > 0.998  # the rest: neighbours closer than fp32 can tell
    torch.testing.assert_close(quick[0], plain[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_numbers_are_refused_by_row(value):
    good, bad = torch.ones(10, 2), torch.ones(10, 2)
    bad[7, 1] = value
    with pytest.raises(BadInput, match="document vectors: row 7 "):
        search(good, bad, k=1, chunk_documents=3)
    with pytest.raises(BadInput, match="query vectors: row 7 "):
        search(bad, good, k=1)


def test_unlike_widths_and_no_k_are_refused():
    with pytest.raises(BadInput, match="384 wide, document vectors 768"):
        search(torch.ones(1, 384), torch.ones(1, 768), k=1)
    with pytest.raises(BadInput, match="k is 0"):
        search(torch.ones(1, 2), torch.ones(1, 2), k=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_what_the_cpu_finds():
    queries, documents = small_integers(9), small_integers(2000, seed=1)
    scores, rows = search(queries.cuda(), documents.half().numpy(), 20, chunk_documents=300)
    assert torch.equal(rows.cpu(), by_full_sort(queries, documents, 20)[1])
    assert scores.device.type == "cuda"


@pytest.mark.parametrize("together", [0.5, 0.9, 0.999])
def test_vectors_so_alike_that_rounding_hides_their_order(together):
    """Rounded scores would let nearly everything in; exact ones take over within the search."""
    generator = torch.Generator().manual_seed(0)
    common, own = torch.randn(1, 64, generator=generator), torch.randn(3000, 64, generator=generator)
    documents = torch.nn.functional.normalize(together**0.5 * common + (1 - together) ** 0.5 * own, dim=1)
    scores, rows = search(documents[:20], documents, 10, chunk_documents=1100)
    expected_scores, expected_rows = by_full_sort(documents[:20], documents, 10)
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-6)
    assert (rows == expected_rows).float().mean() > 0.99  # the rest: neighbours closer than fp32 can tell


@pytest.mark.parametrize("view", [lambda d: d[::-1], lambda d: np.asfortranarray(d), lambda d: d[:, ::-1].copy()[:, ::-1]])
def test_arrays_that_lie_in_memory_in_another_order(view):
    queries, documents = small_integers(5), small_integers(50, seed=1).numpy()
    assert torch.equal(search(queries, view(documents), 7)[1], by_full_sort(queries, torch.from_numpy(view(documents).copy()), 7)[1])


def test_what_is_no_table_of_vectors_is_refused():
    with pytest.raises(BadInput, match=r"queries: give vectors \[Q, D\]"):
        search(np.zeros(4), np.zeros((2, 4)), 1)
    with pytest.raises(BadInput, match=r"documents: give vectors .* `documents` of a TeacherStore"):
        search(np.zeros((1, 4)), object(), 1)


@pytest.mark.parametrize("k", [1, 10, 64, 200])
@pytest.mark.parametrize("chunk_documents", [7, 1000])
def test_one_document_of_each_query_may_be_left_out(k, chunk_documents):
    """The others keep their order, also among ties and at the last place; -1 leaves nothing out."""
    queries, documents = small_integers(30), small_integers(200, seed=1)
    left_out = torch.randint(-1, 200, (30,), generator=torch.Generator().manual_seed(2))
    left_out[:10] = by_full_sort(queries, documents, 10)[1][torch.arange(10), torch.arange(10)]  # each place of the first ten
    left_out[10] = -1
    order = (queries @ documents.T).sort(dim=1, descending=True, stable=True).indices.tolist()
    expected = [[row for row in rows if row != out][:k] for rows, out in zip(order, left_out.tolist(), strict=True)]
    scores, rows = search(queries, documents, k, chunk_documents, left_out=left_out)
    assert scores.shape == rows.shape == (30, k)
    assert [[row for row in found if row >= 0] for found in rows.tolist()] == expected
    assert torch.equal(rows == -1, scores.isinf())  # only where k others do not exist
    found = torch.einsum("qd,qkd->qk", queries, documents[rows.clamp(min=0)])
    assert torch.equal(scores[rows >= 0], found[rows >= 0])
    arrays = search(queries.numpy(), documents.numpy(), k, chunk_documents, left_out=left_out.numpy())
    np.testing.assert_array_equal(arrays[1], rows.numpy())


def test_nothing_left_out_changes_nothing():
    queries, documents = text_like(20, seed=3), text_like(300, seed=4)
    for one, other in zip(search(queries, documents, 10), search(queries, documents, 10, left_out=np.full(20, -1)), strict=True):
        assert torch.equal(one, other)


def test_a_faiss_index_leaves_them_out_too():
    faiss = pytest.importorskip("faiss")
    queries, documents = text_like(20, seed=3), text_like(300, seed=4)
    index = faiss.IndexFlatIP(64)
    index.add(documents.numpy())
    left_out = search(queries, documents, 1)[1][:, 0]  # the best of each
    assert torch.equal(search(queries, index, 5, left_out=left_out)[1], search(queries, documents, 6)[1][:, 1:])
    assert search(queries[:1], index, 300, left_out=left_out[:1])[1][0, -1] == -1
