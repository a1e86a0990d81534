"""The bound on rounded products, number by number: nothing that exact scores would find is left out."""

import pytest
import torch

from distill.vectors import chunk as chunk_module
from distill.vectors.chunk import Chunk
from distill.vectors.rounding import (
    Preselection,
    candidate_mask,
    kth_or_less,
    lower_end,
    product_error,
    unpack_places,
    words_with_candidates,
)

SCALES = [1e-3, 1.0, 300.0]


def vectors(rows: int, seed: int, width: int = 48, scale: float = 1.0, common: float = 0.0) -> torch.Tensor:
    """[rows, width]: random directions, some of them shared, of lengths that differ by a factor of ten."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(rows, width, generator=generator) + common * torch.randn(1, width, generator=generator)
    return scale * directions * torch.logspace(-1, 0, rows)[torch.randperm(rows, generator=generator), None]


def loaded(documents: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> Chunk:
    """A chunk that holds rounded documents too, also where the processor does not multiply them natively."""
    monkeypatch.setattr(chunk_module, "has_fast_bf16", lambda device_type: True)
    made = Chunk(len(documents), documents.shape[1], documents.device)
    made.load(documents, 0)
    return made


@pytest.mark.parametrize("scale", SCALES)
def test_products_of_rounded_vectors_are_off_by_no_more_than_the_bound(scale):
    queries, documents = vectors(40, 0, scale=scale), vectors(500, 1, scale=1 / scale)
    rounded = queries.bfloat16()
    exact = queries.double() @ documents.double().T
    off = (rounded.double() @ documents.bfloat16().double().T - exact).abs()
    bound = product_error(queries, rounded, documents.norm(dim=1).max())
    assert (off <= bound).all()
    assert (off.amax(1) > bound[:, 0] / 20).all()  # and not so wide that nothing would be left out


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("rounds", [True, False])
def test_among_documents_with_a_number_that_is_none_nothing_is_found(value, rounds, monkeypatch):
    """A GPU refuses them at the end only: were all documents candidates until then, their scores would take gigabytes."""
    documents = vectors(500, 1)
    documents[300, 7] = value
    preselection = Preselection(3, documents.device)
    preselection.rounds = rounds
    chunk = loaded(documents, monkeypatch)
    places = preselection.find(vectors(4, 0), chunk, torch.full((4, 1), -torch.inf))
    assert (len(places.query), places.most, preselection.rounds) == (0, 0, rounds)
    assert not chunk.all_finite()


def test_the_bound_of_a_single_number_by_hand():
    """1 + 2^-8 lies between two bf16 numbers and is rounded to 1: off by 2^-8 on either side."""
    query = document = torch.tensor([[1 + 2**-8]])
    bound = float(product_error(query, query.bfloat16(), document.norm()))
    assert float(query.bfloat16()) == 1
    assert bound == pytest.approx(2**-8 * (1 + 2**-8) + 2**-8 * (1 + 2**-8), rel=1e-4)
    assert bound >= (1 + 2**-8) ** 2 - 1


def test_products_in_fp32_are_off_by_the_order_of_their_sum_alone():
    queries = vectors(3, 0)
    bound = product_error(queries, queries, torch.tensor(2.0))
    torch.testing.assert_close(bound, 48 * 2**-23 * 2 * queries.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("value", [1.0, 1.0039, -1.0039, 255.5, 1e-6])
def test_lower_end_is_below_whatever_is_rounded_to_a_number(value):
    exact = torch.tensor(value) * (1 + torch.linspace(-1, 1, 1001) * 2**-8)
    rounded = exact.bfloat16()
    assert (lower_end(rounded.float(), torch.bfloat16) <= exact).all()
    assert (lower_end(exact, torch.bfloat16).bfloat16() <= rounded).all()


@pytest.mark.parametrize(("columns", "k"), [(1, 1), (10, 3), (100, 7), (1000, 10), (1001, 250)])
def test_at_least_k_scores_reach_kth_or_less(columns, k):
    scores = torch.randn(5, columns, generator=torch.Generator().manual_seed(0))
    assert ((scores >= kth_or_less(scores, k)).sum(1) >= k).all()
    assert kth_or_less(scores[:, : k - 1], k).tolist() == [[-torch.inf]] * 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("common", [0.0, 3.0])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("count", [13, 400])
def test_the_top_k_is_among_the_candidates(dtype, common, scale, count, monkeypatch):
    queries, documents = vectors(30, 2, scale=scale, common=common), vectors(count, 3, common=common)
    chunk, k = loaded(documents, monkeypatch), 10
    of_dtype = chunk.rounded_documents if dtype == torch.bfloat16 else chunk.padded_documents
    exact = queries.double() @ documents.double().T
    for best in (torch.full((30, 1), -torch.inf), exact.topk(k).values[:, -1:].float() - 1e-4 * scale):
        mask = candidate_mask(queries, of_dtype, chunk, best, k)
        query, column, *_ = unpack_places(mask, words_with_candidates(mask))
        found = torch.zeros(30, count, dtype=torch.bool).index_put((query, column), torch.tensor(True))
        assert column.max() < count  # no padding
        assert found.gather(1, exact.topk(k).indices).all()
        assert dtype == torch.bfloat16 or count < 100 or found.sum() < 30 * 6 * k


def test_places_are_ordered_by_query_then_by_column():
    mask = torch.tensor([[0, 1, 0, 0, 0, 0, 0, 1], [0] * 8, [1, 0, 0, 0, 1, 1, 0, 0]]).float().unflatten(1, (-1, 2))
    query, column, begins, most = unpack_places(mask, words_with_candidates(mask))
    assert (query.tolist(), column.tolist()) == ([0, 0, 2, 2, 2], [1, 7, 0, 4, 5])
    assert (begins.tolist(), most) == ([0, 2, 2, 5], 3)
    nothing = torch.zeros_like(mask)
    assert unpack_places(nothing, words_with_candidates(nothing)).most == 0


def test_rounded_products_are_given_up_where_they_tell_nothing_apart(monkeypatch):
    documents = torch.ones(2000, 8) + 1e-4 * torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    chunk, preselection = loaded(documents, monkeypatch), Preselection(3, documents.device)
    preselection.rounds = True
    query, *_ = preselection.find(documents[:5], chunk, torch.full((5, 1), -torch.inf))
    assert not preselection.rounds
    assert len(query) < 2000  # of 10,000: exact products tell them apart
