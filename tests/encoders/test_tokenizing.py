"""Texts of no tokens."""

import numpy as np
import pytest
from plain_folders import GPT2, LONG, USUAL, rewrite_json, save_folder
from transformers import (
    GPT2Config,
    RobertaConfig,
)

from distill.encoders.folder import load_encoder
from distill.texts.tokens import tokenize_in_memory


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_of_no_tokens_has_the_zero_vector_in_every_batch(pooling, tmp_path):
    folder = save_folder(tmp_path / "model", RobertaConfig(**USUAL, initializer_range=0.2))
    rewrite_json(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=pooling == "mean", pooling_mode_cls_token=pooling == "cls")
    encoder = load_encoder(str(folder))
    zero = [0.0] * 16
    assert encoder.token_ids([" "], "document") == [[]]
    assert encoder.encode_document(" ").tolist() == zero
    assert encoder.encode_document(["", " "]).tolist() == [zero, zero]
    assert encoder.encode_document(["river", "", LONG])[1].tolist() == zero
    assert encoder.encode([""], "query").tolist() == [zero]


def test_a_batch_of_texts_without_tokens_has_one_column(tmp_path):
    encoder = load_encoder(str(save_folder(tmp_path / "model", GPT2Config(**GPT2))))
    for texts, rows in ((["", ""], [0, 1]), (["river", ""], [1])):
        batch = tokenize_in_memory(texts, encoder, "query").batch(np.array(rows))
        assert batch.attention_mask.tolist() == [[0]] * len(rows)
        assert encoder(batch).tolist() == [[0.0] * 16] * len(rows)
