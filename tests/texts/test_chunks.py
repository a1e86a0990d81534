"""Chunks cover every text once, stay within their budget, and give back the order."""

import numpy as np
import torch
from families import make_cross
from hypothesis import given
from hypothesis import strategies as st

from distill.texts.chunks import chunk_pairs, chunk_texts, make_chunks
from distill.texts.tokens import TokenArrays


def arrays(texts: list[list[int]]) -> TokenArrays:
    flat = np.array([id_ for text in texts for id_ in text], np.int32)
    return TokenArrays(flat, np.cumsum([0, *map(len, texts)]), pad_id=0)


@given(texts=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=20), budget=st.integers(1, 60))
def test_texts_come_back_in_order_from_batches_within_the_budget(texts, budget):
    chunks = chunk_texts(arrays(texts), np.arange(len(texts)), budget)
    assert all(batch.input_ids.numel() <= budget or len(batch.input_ids) == 1 for batch in chunks.batches)
    assert chunks.map(lambda batch: batch.input_ids.sum(1)).tolist() == [sum(text) for text in texts]
    assert sum(int(batch.attention_mask.sum()) for batch in chunks.batches) == sum(map(len, texts))


def test_rows_may_repeat():
    chunks = chunk_texts(arrays([[1], [2, 2]]), np.array([1, 0, 1]), 4)
    assert chunks.map(lambda batch: batch.input_ids.sum(1)).tolist() == [4, 1, 4]


def test_nothing_makes_no_batch():
    assert chunk_texts(arrays([[1]]), np.empty(0, np.int64), 4).batches == []


def test_pairs_are_sorted_by_the_length_they_are_cut_to():
    encoder = make_cross("bert", max_length=8)
    queries, documents = [np.array([5]), np.array([6]), np.array([7])], [np.arange(5, 25), np.array([9]), np.arange(5, 9)]
    chunks = chunk_pairs(encoder, queries, documents, 16)
    assert [tuple(batch.input_ids.shape) for batch in chunks.batches] == [(2, 8), (1, 5)]  # one [CLS] and two [SEP] each
    assert chunks.map(lambda batch: batch.input_ids[:, 1]).tolist() == [5, 6, 7]
    moved = chunks.to(torch.device("meta"))
    assert {batch.input_ids.device.type for batch in moved.batches} == {"meta"} == {moved.positions.device.type}


def test_a_chunk_is_a_batch_of_rows():
    parts = make_chunks([3, 1, 2], 4, lambda rows: rows.tolist())
    assert parts.batches == [[0], [2, 1]]
