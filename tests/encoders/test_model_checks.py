"""A model and a tokenizer that do not fit are refused when they are loaded; those that need little are helped."""

import json
import logging

import numpy as np
import pytest
import torch
from families import make_cross, make_folder, make_tokenizer
from plain_folders import GPT2, SHORT, USUAL, assert_same_vectors, make_words, rewrite_json, save_folder
from transformers import (
    BertModel,
    ConvBertConfig,
    GPT2Config,
    GPT2ForSequenceClassification,
    OPTConfig,
)

from distill.encoders.cross_folder import load_cross_encoder
from distill.encoders.folder import load_encoder
from distill.records import BadInput

# padding


@pytest.mark.parametrize("specials", [{"eos_token": "</s>"}, {"unk_token": "<unk>"}, {"bos_token": "<s>", "unk_token": "<unk>"}])
def test_another_token_stands_in_for_padding(specials, tmp_path):
    plain = save_folder(tmp_path / "plain", GPT2Config(**GPT2), make_words(**specials))
    padded = save_folder(tmp_path / "padded", GPT2Config(**GPT2), make_words(pad_token="<pad>", **specials))
    encoder = load_encoder(str(plain))
    assert encoder.tokenizer.pad_token in specials.values()
    np.testing.assert_allclose(encoder.encode_document(SHORT), load_encoder(str(padded)).encode_document(SHORT), atol=1e-6)
    alone = np.stack([encoder.encode_document(text) for text in SHORT])
    np.testing.assert_allclose(encoder.encode_document(SHORT), alone, atol=1e-6)


def test_a_saved_model_has_its_stand_in(tmp_path):
    encoder = load_encoder(str(save_folder(tmp_path / "plain", GPT2Config(**GPT2), make_words(eos_token="</s>", unk_token="<unk>"))))
    encoder.save_pretrained(tmp_path / "saved")
    assert load_encoder(str(tmp_path / "saved")).fingerprint() == encoder.fingerprint()
    assert_same_vectors(tmp_path / "saved", SHORT)


def test_a_tokenizer_with_nothing_to_pad_with_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"its tokenizer has no padding token: set pad_token in its tokenizer_config\.json$"):
        load_encoder(str(save_folder(tmp_path / "model", GPT2Config(**GPT2), make_words())))


def test_a_head_that_looks_for_the_last_token_sees_no_padding(tmp_path):
    """Two files name two tokens as padding: the score of a pair would depend on the pair beside it."""
    tokenizer = make_words(pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    for pad_id, fault in (
        (0, None),
        (None, None),
        (2, r"a score depends on the padding, token 2 in its config\.json and 0 in its tokenizer"),
    ):
        folder = tmp_path / str(pad_id)
        save_folder(folder, GPT2Config(**GPT2, pad_token_id=pad_id, num_labels=1), tokenizer, GPT2ForSequenceClassification)
        if fault is None:
            # a tokenizer that puts nothing between two texts makes no cross encoder, which is known behind the head's check
            fault = "puts nothing between two texts"
        with pytest.raises(BadInput, match=fault):
            load_cross_encoder(str(folder))


# tokens without a row


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tmp_path):
    folder = make_folder(tmp_path / "model", "bert")
    encoder = load_encoder(str(folder))
    rows = len(encoder.word_table.weight)
    encoder.tokenizer.add_tokens(["garden-river"])
    encoder.tokenizer.save_pretrained(folder)
    fault = f"{folder}: its tokenizer has {rows + 1} tokens, the last added 'garden-river', its model's word table {rows} rows: "
    with pytest.raises(BadInput, match=fault):
        load_encoder(str(folder))
    encoder.backbone.resize_token_embeddings(rows + 8)
    encoder.backbone.save_pretrained(folder)
    load_encoder(str(folder)).encode_document("river garden-river")


def test_a_padding_token_without_a_row_is_refused(tmp_path):
    folder = save_folder(tmp_path / "model", GPT2Config(**GPT2))
    rewrite_json(folder / "tokenizer_config.json", pad_token="[PAD]")
    with pytest.raises(BadInput, match=r"12 tokens, the last added '\[PAD\]', its model's word table 11 rows"):
        load_encoder(str(folder))


def test_a_cross_encoder_with_more_tokens_than_rows_is_refused(tmp_path):
    cross = make_cross("bert", "cls")
    cross.save_pretrained(tmp_path / "model")
    cross.tokenizer.add_tokens(["garden-river"])
    cross.tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(BadInput, match="the last added 'garden-river'"):
        load_cross_encoder(str(tmp_path / "model"))


# models that do not read texts


def test_a_model_of_other_states_than_its_config_says_is_refused(tmp_path):
    folder = save_folder(tmp_path / "model", OPTConfig(**{**USUAL, "ffn_dim": 32, "word_embed_proj_dim": 8}))
    with pytest.raises(BadInput, match=r"its OPTModel does not read texts: its states are \(2, 4, 8\), not \(2, 4, 16\): choose"):
        load_encoder(str(folder))


def test_a_model_that_sees_padding_is_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "distill"):
        load_encoder(str(save_folder(tmp_path / "model", ConvBertConfig(**USUAL, embedding_size=16, head_ratio=2, initializer_range=0.5))))
    assert "convbert: the vector of a text depends on the longest text of its batch" in caplog.text


# tokenizers


def test_a_tokenizer_in_python_is_refused(tmp_path):
    folder = make_folder(tmp_path / "model", "bert")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "vocab.txt").write_text("\n".join(sorted(make_tokenizer("bert").get_vocab())))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"}))
    with pytest.raises(
        BadInput, match=r"its tokenizer, a BertJapaneseTokenizer, has no Rust backend: choose a model with a tokenizer\.json"
    ):
        load_encoder(str(folder))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive"), torch.OutOfMemoryError("out of memory")])
def test_a_model_is_not_blamed_for_little_memory(error, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    folder = str(make_folder(tmp_path / "model", "bert"))
    monkeypatch.setattr(BertModel, "forward", fail)
    with pytest.raises(type(error)) as raised:
        load_encoder(folder)
    assert raised.value is error
