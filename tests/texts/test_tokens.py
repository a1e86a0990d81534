import dataclasses

import numpy as np
import pytest
import torch
from families import make_cross, make_encoder

from distill.texts import tokens as token_module
from distill.texts.texts import Texts
from distill.texts.tokens import TokenArrays, concatenate_tokens, load_or_tokenize


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def texts(tmp_path):
    lines = ["river", "what is the best music", "a", "how to find a large old engine near the market and the ocean", "red garden"]
    (tmp_path / "queries.tsv").write_text("".join(f"q{row}\t{line}\n" for row, line in enumerate(lines)))
    return Texts.open(tmp_path / "queries.tsv")


@pytest.fixture
def encoder():
    return make_encoder("bert", max_length=9, prompts={"query": "find ", "document": ""})


def arrays_of(tokens: TokenArrays) -> list[list[int]]:
    return [tokens.flat[start:end].tolist() for start, end in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]


@pytest.mark.parametrize("chunk", [1, 2, 100])
@pytest.mark.parametrize("role", ["query", "document"])
def test_flat_arrays_are_the_tokenizers_output(texts, encoder, role, chunk, monkeypatch):
    monkeypatch.setattr(token_module, "TEXTS_PER_CHUNK", chunk)
    tokens = load_or_tokenize(texts, encoder, role)
    prompt = encoder.settings.prompts[role]
    expected = [encoder.tokenizer.encode(prompt + text, truncation=True, max_length=9) for text in texts]
    assert arrays_of(tokens) == expected
    assert tokens.lengths.tolist() == [len(row) for row in expected]
    assert (len(tokens), tokens.flat.dtype, tokens.pad_id) == (5, np.int32, encoder.tokenizer.pad_token_id)


def test_a_batch_is_padded_on_the_right(texts, encoder):
    tokens = load_or_tokenize(texts, encoder, "query")
    rows = np.array([1, 0, 4, 0])
    batch = tokens.batch(rows)
    expected = encoder.pad(encoder.token_ids([texts[row] for row in rows], "query"))
    assert torch.equal(batch.input_ids, expected.input_ids)
    assert torch.equal(batch.attention_mask, expected.attention_mask)
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.int64


def test_a_batch_by_hand():
    tokens = TokenArrays(np.array([5, 6, 7, 8, 9, 4], np.int32), np.array([0, 2, 5, 6]), pad_id=1)
    batch = tokens.batch(np.array([2, 0]))
    assert batch.input_ids.tolist() == [[4, 1], [5, 6]]
    assert batch.attention_mask.tolist() == [[1, 0], [1, 1]]
    assert tokens.batch(np.array([1])).input_ids.tolist() == [[7, 8, 9]]


def test_the_second_call_reads_the_cache(texts, encoder, monkeypatch):
    first = load_or_tokenize(texts, encoder, "query")
    monkeypatch.setattr(encoder, "token_ids", lambda *_: pytest.fail("tokenised again"))
    assert arrays_of(load_or_tokenize(texts, encoder, "query")) == arrays_of(first)


def test_whatever_changes_the_tokens_is_tokenised_again(texts, encoder, tmp_path):
    variants = [encoder]
    for changes in ({"max_length": 5}, {"prompts": {"query": "best ", "document": ""}}):
        other = make_encoder("bert")
        other.settings = dataclasses.replace(encoder.settings, **changes)
        variants.append(other)
    variants.append(make_encoder("xlm-roberta", max_length=9))
    seen = [arrays_of(load_or_tokenize(texts, variant, "query")) for variant in variants]
    assert len({str(arrays) for arrays in seen}) == len(variants)
    assert arrays_of(load_or_tokenize(texts, encoder, "document")) != seen[0]
    (tmp_path / "queries.tsv").write_text("q0\tnew\n")
    assert len(load_or_tokenize(Texts.open(tmp_path / "queries.tsv"), encoder, "query")) == 1


def test_what_a_kill_left_half_written_is_made_again(texts, encoder, tmp_path):
    first = arrays_of(load_or_tokenize(texts, encoder, "query"))
    [tokens] = (tmp_path / "cache" / "tokens").glob("*.npy")
    tokens.unlink()
    (tokens.parent / f".{tokens.name}.99.tmp").write_bytes(b"half")
    assert arrays_of(load_or_tokenize(texts, encoder, "query")) == first


def test_no_texts_no_tokens(texts, encoder):
    assert len(load_or_tokenize(texts.subset([]), encoder, "query")) == 0


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_set_of_no_texts_gives_its_neighbours_nothing(texts, encoder, empty):
    parts = [load_or_tokenize(texts.subset(rows), encoder, "query") for rows in ([0, 1], [2, 3, 4])]
    parts.insert(empty, load_or_tokenize(texts.subset([]), encoder, "query"))
    assert arrays_of(concatenate_tokens(parts)) == arrays_of(load_or_tokenize(texts, encoder, "query"))


def test_a_cross_encoder_takes_the_same_texts_without_special_tokens(texts, encoder):
    """The same tokenizer, length and prompt, and yet other arrays than the encoder's in the cache."""
    plain, cross = make_encoder("bert", max_length=9), make_cross("bert", max_length=9)
    with_specials, alone = (arrays_of(load_or_tokenize(texts, reader, "document")) for reader in (plain, cross))
    assert [row[1:-1] for row in with_specials] == [row[:7] for row in alone]
    assert max(map(len, alone)) == 9
    assert load_or_tokenize(texts, cross, "document").ids(1).tolist() == alone[1]
