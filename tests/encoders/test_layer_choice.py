"""Which layers a student keeps: those whose untrained states are most like the teacher's vectors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from families import make_folder

from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.layer_choice import choose_alike_layers, score_cut
from distill.encoders.modules import Transformer

WORDS = ["river", "garden", "planet", "music", "letter", "market", "ocean", "mountain"]
TEXTS = [f"{one} {other}" for one in WORDS for other in WORDS]


def make_teacher(folder, idle: list[int], depth: int = 5) -> Encoder:
    """A transformer whose layers `idle` hand on what they read."""
    encoder = load_encoder(str(make_folder(folder, "bert")))
    torch.manual_seed(0)
    config = encoder.backbone.config
    config.num_hidden_layers = depth
    backbone = type(encoder.backbone)(config, add_pooling_layer=False).eval()
    for number, layer in enumerate(backbone.encoder.layer):
        for dense in (layer.attention.output.dense, layer.output.dense):
            torch.nn.init.normal_(dense.weight, std=0.0 if number in idle else 1.0)
    return Encoder([Transformer(backbone), encoder.pooling, *encoder.head], encoder.tokenizer, encoder.settings)


def read(encoder: Encoder) -> tuple[list[np.ndarray], np.ndarray]:
    token_ids = [np.array(ids) for ids in encoder.token_ids(TEXTS, "query")]
    body = Encoder([encoder.transformer, encoder.pooling], encoder.tokenizer, encoder.settings)  # so that its own states are the nearest
    return token_ids, encode_token_ids(body.eval(), token_ids)


@pytest.mark.parametrize("needed", [0, 1, 2, 3])
def test_the_layer_that_does_something_is_chosen(tmp_path, needed):
    teacher = make_teacher(tmp_path / "teacher", idle=[layer for layer in range(4) if layer != needed])
    assert choose_alike_layers(teacher, 2, *read(teacher)) == [[4], [needed, 4]]


def test_each_student_has_the_layers_of_the_smaller_one_and_one_more(tmp_path):
    teacher = make_teacher(tmp_path / "teacher", idle=[])
    chosen = choose_alike_layers(teacher, 5, *read(teacher))
    assert [len(layers) for layers in chosen] == [1, 2, 3, 4, 5]
    assert all(set(smaller) < set(larger) and larger == sorted(larger) for smaller, larger in pairwise(chosen))
    assert chosen[-1] == [0, 1, 2, 3, 4]


def test_the_whole_teacher_is_its_own_likeness_and_turned_vectors_are_too(tmp_path):
    teacher = make_teacher(tmp_path / "teacher", idle=[])
    token_ids, vectors = read(teacher)
    turned = vectors @ np.linalg.qr(np.random.default_rng(0).normal(size=(vectors.shape[1],) * 2))[0]
    assert score_cut(teacher, [0, 1, 2, 3, 4], token_ids, vectors) == pytest.approx(1, abs=1e-6)
    assert score_cut(teacher, [0, 4], token_ids, turned) == pytest.approx(score_cut(teacher, [0, 4], token_ids, vectors), abs=1e-6)
    assert 0 < score_cut(teacher, [0, 4], token_ids, vectors) < 1


def test_what_cannot_be_cut_is_not_chosen(tmp_path):
    """ModernBERT's first layer lacks a norm that the others have."""
    encoder = load_encoder(str(make_folder(tmp_path / "teacher", "modernbert")))
    token_ids, vectors = read(encoder)
    last = encoder.backbone.config.num_hidden_layers - 1
    assert score_cut(encoder, [last], token_ids, vectors) == -1
    assert choose_alike_layers(encoder, 2, token_ids, vectors) == [[last], [0, last]]


def test_cuts_of_a_teacher_in_16_bits_are_read_in_fp32(tmp_path):
    folder = make_folder(tmp_path / "teacher", "bert")
    short = load_encoder(str(folder), weights="bf16")
    token_ids, _ = read(short)
    whole = load_encoder(str(folder))
    whole.load_state_dict(short.state_dict())  # the same numbers, in 32 bits
    vectors = read(whole)[1]
    assert score_cut(short, [0, 3], token_ids, vectors) == score_cut(whole, [0, 3], token_ids, vectors)
    assert short.backbone.dtype == torch.bfloat16  # it is not changed
