import numpy as np
import pytest
import torch
from families import make_encoder
from hypothesis import given
from hypothesis import strategies as st

from distill.encoders import device_batches as batched
from distill.encoders.batching import encode_texts, encode_token_ids
from distill.encoders.device_batches import length_batches

LENGTHS = st.lists(st.integers(1, 60), max_size=80)


@given(LENGTHS, st.integers(1, 200))
def test_batches_cover_every_row_once_within_the_budget(lengths, budget):
    batches = list(length_batches(lengths, budget))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 200))
def test_no_batch_leaves_room_for_another_text(lengths, budget):
    batches = list(length_batches(lengths, budget))
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(lengths[row] for row in batch) > budget


@pytest.fixture(scope="module")
def encoder():
    return make_encoder("bert", prompts={"query": "find ", "document": ""})


@pytest.fixture(scope="module")
def texts():
    random = np.random.default_rng(0)
    words = ["river", "music", "engine", "garden", "a", "the", "best"]
    return [" ".join(random.choice(words, int(random.integers(1, 30)))) for _ in range(40)]


@pytest.mark.parametrize("role", ["query", "document"])
def test_vectors_come_in_the_order_of_the_texts(encoder, texts, role, monkeypatch):
    monkeypatch.setitem(batched.TOKENS_PER_BATCH, "cpu", 48)
    vectors = encode_texts(encoder, texts, role)
    one_by_one = torch.cat([encoder.encode([text], role) for text in texts]).numpy()
    assert vectors.dtype == np.float32
    assert len(np.unique(one_by_one.round(3), axis=0)) > 30  # the texts differ: a wrong order would be seen
    np.testing.assert_allclose(vectors, one_by_one, atol=1e-5)


def test_progress_adds_up(encoder, texts, monkeypatch):
    monkeypatch.setitem(batched.TOKENS_PER_BATCH, "cpu", 48)
    done = []
    encode_token_ids(encoder, encoder.token_ids(texts, "query"), progress=done.append)
    assert sum(done) == len(texts)
    assert len(done) > 5


def test_bf16_stays_near(encoder, texts):
    exact, rounded = (encode_texts(encoder, texts, "query", precision) for precision in ("fp32", "bf16"))
    assert 0 < np.abs(exact - rounded).max() < 0.1


def test_no_texts(encoder):
    assert encode_texts(encoder, [], "document").shape == (0, encoder.width)


def test_weights_that_moved_are_used_within_a_training(texts):
    """A training is within autocast from its first step to its last, and until that ends torch may keep bf16 copies of weights: not in
    inference mode.
    """
    encoder = make_encoder("bert")
    with torch.autocast("cpu", enabled=False):
        before = encode_texts(encoder, texts, "query", "bf16")
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        after = encode_texts(encoder, texts, "query", "bf16")
    assert not np.allclose(before, after, atol=1e-2)
    np.testing.assert_array_equal(after, encode_texts(encoder, texts, "query", "bf16"))
