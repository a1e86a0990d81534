"""A device whose memory runs out gets smaller batches, and computes the same."""

import logging

import numpy as np
import pytest
import torch
from families import make_cross, make_encoder

from distill.encoders.batching import encode_texts
from distill.encoders.device_batches import TokenBudget, run_in_batches
from distill.records import BadInput
from distill.teachers.reranking import score_pairs

CPU = torch.device("cpu")
TEXTS = ["the best old river", "bread", "how to find a red engine near the market", "a slow letter", "what is music"] * 4


class SmallDevice:
    """Stands for a device that holds so many tokens: what is hooked to it runs out of memory with more, as PyTorch says it on a GPU."""

    def __init__(self, model: torch.nn.Module, most: int):
        self.most, self.refused = most, 0
        self.hook = model.register_forward_pre_hook(self.refuse_large)

    def refuse_large(self, _, inputs):
        if inputs[0].input_ids.numel() > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def run_sums(lengths: list[int], most: int, budget: TokenBudget) -> tuple[dict[int, int], list[int]]:
    """Doubles the number of each row, where a batch of more than `most` tokens is too large; returns also the sizes of the batches."""
    sizes = []

    def double(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) * max(lengths[row] for row in rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * rows

    parts = list(run_in_batches(lengths, budget, CPU, torch.from_numpy, double))
    return {int(row): int(value) for rows, values in parts for row, value in zip(rows, values, strict=True)}, sizes


def test_a_batch_is_halved_until_it_fits_and_stays_so():
    budget = TokenBudget()
    values, sizes = run_sums([4] * 12, most=12, budget=budget)
    assert values == {row: 2 * row for row in range(12)}
    assert sizes == [12, 6, 3, 3, 3, 3]  # 48 tokens, 24, 12
    assert budget.tokens(CPU) == 12
    assert run_sums([4] * 4, most=12, budget=budget)[1] == [3, 1]  # the rest of the job begins small


def test_a_large_budget_is_halved_from_what_the_batch_had():
    assert run_sums([3, 5], most=5, budget=TokenBudget({"cpu": 10**6, "cuda": 1}))[1] == [2, 1, 1]


def test_a_text_that_does_not_fit_alone_is_refused():
    with pytest.raises(BadInput, match=r"a text of 9 tokens does not fit into the memory of cpu, even alone: cut texts .* --max_length"):
        run_sums([2, 9], most=8, budget=TokenBudget())


def test_vectors_equal_those_of_small_batches(caplog):
    encoder, small = make_encoder("bert"), make_encoder("bert")
    device = SmallDevice(encoder, 40)
    small.budget.limit = 27  # 20 texts of up to 11 tokens: 220 of them, 110, 55, 27
    with caplog.at_level(logging.WARNING):
        vectors = encode_texts(encoder, TEXTS, "query")
        refused = device.refused
        again = encode_texts(encoder, TEXTS, "query")
    np.testing.assert_array_equal(vectors, encode_texts(small, TEXTS, "query"))
    np.testing.assert_array_equal(vectors, again)
    assert device.refused == refused == 3
    assert caplog.messages == ["the memory of cpu ran out: goes on with 27 tokens a batch"]
    device.most = 5
    with pytest.raises(BadInput, match="a text of 11 tokens does not fit"):
        encode_texts(encoder, TEXTS, "query")


def test_pairs_too(caplog):
    cross, small = make_cross("bert"), make_cross("bert")
    device = SmallDevice(cross, 50)
    ids = cross.token_ids(TEXTS, "query")
    pairs = list(zip(ids, reversed(ids), strict=True))
    longest = max(cross.pair_lengths(*zip(*pairs, strict=True)))
    small.budget.limit = 20 * longest // 2 // 2 // 2
    done = []
    scores = score_pairs(cross, pairs, progress=done.append)
    np.testing.assert_array_equal(scores, score_pairs(small, pairs))
    assert scores.shape == (20, 33)  # a score and two vectors of 16
    assert sum(done) == 20
    assert device.refused == len(caplog.messages) + 2 == 3
    device.most = 5
    with pytest.raises(BadInput, match=rf"a text of {longest} tokens .* take a smaller model"):
        score_pairs(cross, pairs)
