"""How often tokens occur in queries and documents."""

from __future__ import annotations

import numpy as np
import pytest
from families import make_encoder

from distill.data.datamodule import RetrievalData
from distill.data.token_counts import count_tokens
from distill.encoders.folder import load_encoder
from distill.texts.sources import MsMarcoTsv
from distill.texts.texts import Texts


def texts(*lines: str, name: str = "texts") -> Texts:
    return Texts.from_lists([f"{name}-{number}" for number in range(len(lines))], list(lines), name=name)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder("bert", prompts={"query": "market ", "document": ""})


def by_word(encoder, counts: np.ndarray) -> dict[str, float]:
    return {encoder.tokenizer.convert_ids_to_tokens(int(id_)): float(counts[id_]) for id_ in np.flatnonzero(counts)}


def test_queries_and_documents_weigh_alike(encoder):
    """So do two sets of queries, of two and of four tokens; special tokens, unknown ones and the prompt are none of them."""
    queries = [texts("old river", name="one"), texts("river !", "garden garden garden", name="two")]
    counts = count_tokens(encoder, queries, texts(" ".join(["river"] * 9 + ["ocean"])))
    assert counts.shape == (len(encoder.word_table.weight),)
    expected = {"old": 1 / 4, "river": 1 / 4 + 1 / 8 + 9 / 10, "garden": 3 / 8, "ocean": 1 / 10}
    assert by_word(encoder, counts) == pytest.approx(expected)


def test_without_documents_queries_count_alone(encoder):
    assert by_word(encoder, count_tokens(encoder, [texts("old river")])) == {"old": 0.5, "river": 0.5}
    assert not count_tokens(encoder, [], texts("!")).any()


def test_of_many_texts_some_are_counted(encoder, monkeypatch):
    """Three of five, from the first to the last; a text counts as far as the encoder reads it."""
    monkeypatch.setattr("distill.data.token_counts.MOST_TEXTS", 3)
    many = texts("river", "music", "garden", "planet", " ".join(["ocean"] * 30), name="many")
    assert by_word(encoder, count_tokens(encoder, [many])) == pytest.approx({"river": 1 / 18, "garden": 1 / 18, "ocean": 16 / 18})


def test_a_training_counts_its_own_queries_and_the_documents(source_root, store_folder, teacher_folder, tmp_path):
    """Not those that it is measured on; the documents once, though an epoch draws them as queries too; again from the cache."""
    encoder, source = load_encoder(str(teacher_folder)), MsMarcoTsv(str(source_root))
    expected = count_tokens(encoder, [source.queries("train")], source.documents())
    for more in ({}, {"match_documents": 0.5}):
        data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), **more)
        data.setup("fit")
        np.testing.assert_array_equal(data.count_tokens(encoder), expected)
    assert 0 < (expected > 0).sum() < len(encoder.tokenizer)
