"""How long texts may be for models of several families, and what is read of models with a decoder."""

import numpy as np
import pytest
import torch
from families import make_encoder
from plain_folders import GPT2, LONG, SHORT, T5, USUAL, assert_same_vectors, save_folder
from transformers import (
    BartConfig,
    BloomConfig,
    CamembertConfig,
    Data2VecTextConfig,
    GPT2Config,
    LlamaConfig,
    LongformerConfig,
    LukeConfig,
    MarianConfig,
    ModernBertConfig,
    MT5Config,
    OPTConfig,
    RobertaConfig,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    XLNetConfig,
)

from distill.encoders.folder import load_encoder
from distill.encoders.layer_cuts import cut_layers
from distill.encoders.transformer_folder import longest_text
from distill.records import BadInput

# positions

OFFSET = {
    "roberta": (RobertaConfig(**USUAL), 30),
    "another padding": (RobertaConfig(**USUAL, pad_token_id=3), 28),
    "camembert": (CamembertConfig(**USUAL), 30),
    "data2vec": (Data2VecTextConfig(**USUAL), 30),
    "longformer": (LongformerConfig(**USUAL, attention_window=8), 30),
    "luke": (LukeConfig(**USUAL, entity_vocab_size=4), 30),
    "opt": (OPTConfig(**{**USUAL, "ffn_dim": 32, "word_embed_proj_dim": 16}), 32),
    "gpt2": (GPT2Config(**GPT2), 32),
}


@pytest.mark.parametrize("family", OFFSET)
def test_a_text_is_cut_to_the_positions_of_tokens(family, tmp_path):
    config, longest = OFFSET[family]
    encoder = load_encoder(str(save_folder(tmp_path / "model", config, max_seq_length=40)))
    assert len(encoder.token_ids([LONG], "document")[0]) == longest
    assert np.isfinite(encoder.encode_document([LONG, "river"])).all()
    with pytest.raises(Exception, match=r"out of (range|bounds)|must match"):
        encoder.backbone(input_ids=torch.full((1, longest + 1), 5))


UNBOUND = {
    "xlnet": XLNetConfig(d_model=16, n_layer=1, n_head=4, d_inner=32),
    "bloom": BloomConfig(hidden_size=16, n_layer=1, n_head=4),
    "t5": T5Config(**T5),
}


@pytest.mark.parametrize("family", UNBOUND)
def test_without_positions_there_is_no_limit(family, tmp_path):
    folder = save_folder(tmp_path / "model", UNBOUND[family])
    assert len(load_encoder(str(folder)).token_ids([f"{LONG} " * 10], "document")[0]) == 1200
    assert_same_vectors(folder, [f"{LONG} " * 10, "river"])


@pytest.mark.parametrize("config", [LlamaConfig(**USUAL), ModernBertConfig(**USUAL, pad_token_id=0)], ids=["llama", "modernbert"])
def test_positions_without_a_table_are_cut_where_the_folder_says(config, tmp_path):
    """`max_position_embeddings` of the config is the limit alone where the folder sets none."""
    folder = save_folder(tmp_path / "longer", config, max_seq_length=40)
    assert len(load_encoder(str(folder)).token_ids([LONG], "document")[0]) == 40
    assert_same_vectors(folder, [LONG, "river"])
    assert load_encoder(str(save_folder(tmp_path / "model", config))).settings.max_length == 32


@pytest.mark.parametrize("limit", [0, -1, 12.5, True, "12"])
def test_another_limit_is_refused(limit):
    encoder = make_encoder("bert")
    with pytest.raises(BadInput, match=f"max_seq_length {limit!r}: give a number of tokens"):
        longest_text(encoder.backbone, encoder.tokenizer, limit)


def test_a_limit_without_room_for_a_text_is_refused():
    encoder = make_encoder("bert")
    with pytest.raises(BadInput, match="reads at most 2 tokens, of which 2 are special tokens"):
        longest_text(encoder.backbone, encoder.tokenizer, 2)


# encoders with a decoder


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("config_class", [T5Config, MT5Config])
def test_the_encoder_of_a_t5_is_read_alone(config_class, whole, tmp_path):
    if config_class is T5Config:
        folder = save_folder(tmp_path / "model", T5Config(**T5), model_class=T5ForConditionalGeneration if whole else T5EncoderModel)
    else:
        folder = save_folder(tmp_path / "model", MT5Config(**T5))
    assert_same_vectors(folder, [*SHORT, ""])


def test_a_student_is_cut_from_a_t5(tmp_path):
    teacher = load_encoder(str(save_folder(tmp_path / "model", T5Config(**T5))))
    student = cut_layers(teacher.backbone, [0, 2])
    assert isinstance(student, T5EncoderModel)
    tokens = teacher.pad(teacher.token_ids(SHORT, "query"))
    states = student(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    del teacher.backbone.encoder.block[1]
    torch.testing.assert_close(states, teacher.states(tokens))
    with pytest.raises(BadInput, match="t5 cannot be cut so"):  # the first layer has the distances of all
        cut_layers(load_encoder(str(tmp_path / "model")).backbone, [2])


BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}


def test_another_encoder_decoder_is_read_as_sentence_transformers_reads_it_or_refused(tmp_path):
    sizes = {**BART, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 32}
    assert_same_vectors(save_folder(tmp_path / "bart", BartConfig(**sizes, pad_token_id=0)), SHORT)
    folder = save_folder(tmp_path / "marian", MarianConfig(**sizes, pad_token_id=0, decoder_start_token_id=0))
    with pytest.raises(
        BadInput, match="marian: its MarianModel encodes and decodes: of such models only T5's encoder is read, without a head"
    ):
        load_encoder(str(folder))
