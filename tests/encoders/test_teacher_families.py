"""Folders of models of many architectures give sentence-transformers' vectors, whichever pooling, whichever side is padded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, PretrainedConfig, PreTrainedTokenizerFast, T5EncoderModel

from distill.encoders.folder import load_encoder
from distill.encoders.pooling import MODES
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.encoders.towers import load_maker
from distill.records import BadInput
from distill.teachers.local import load_local_teacher

theirs = pytest.importorskip("sentence_transformers", minversion="6")
modules = pytest.importorskip("sentence_transformers.models")

TEXTS = ["hello world", "the river " * 40, "word " * 10_000, "naïve 東京 🎉", "مرحبا بالعالم", "a\x00b", "one two three four five", ""]
WIDTH, LONGEST = 16, 48
USUAL: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "initializer_range": 0.2,
    "max_position_embeddings": 130,
}
IDS: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
DECODER: dict[str, Any] = {**USUAL, **IDS, "num_key_value_heads": 2}
GEMMA: dict[str, Any] = {**DECODER, "head_dim": 4, "sliding_window": 8}
ROBERTA: dict[str, Any] = {**USUAL, **IDS, "type_vocab_size": 1}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "Qwen2": lambda: transformers.Qwen2Config(**DECODER),
    "Qwen3": lambda: transformers.Qwen3Config(**DECODER, head_dim=4),
    "Mistral": lambda: transformers.MistralConfig(**DECODER, sliding_window=8),
    "Llama": lambda: transformers.LlamaConfig(**DECODER),
    "Gemma 3": lambda: transformers.Gemma3TextConfig(**GEMMA),
    "Gemma 3, reading both ways": lambda: transformers.Gemma3TextConfig(**GEMMA, use_bidirectional_attention=True),
    "T5 encoder": lambda: transformers.T5Config(
        vocab_size=400, d_model=WIDTH, d_kv=4, d_ff=32, num_layers=3, num_heads=4, initializer_factor=0.5
    ),
    "RoBERTa": lambda: transformers.RobertaConfig(**ROBERTA),
    "ELECTRA": lambda: transformers.ElectraConfig(**USUAL, embedding_size=8),
    "ALBERT": lambda: transformers.AlbertConfig(**USUAL, embedding_size=8),
    "DeBERTa-v2": lambda: transformers.DebertaV2Config(
        **USUAL, relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"], pad_token_id=0
    ),
}
COUNTS_FROM_PADDING = ("ELECTRA", "ALBERT", "DeBERTa-v2")  # under left padding sentence-transformers' vectors depend on the batch
NO_CUT = ("ALBERT",)  # its layers share their weights


def make_tokenizer(side: str) -> PreTrainedTokenizerFast:
    """Bytes and some words, with a last token behind each text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    letters = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    core.train_from_iterator(
        ["hello world the river one two three"] * 20, trainers.BpeTrainer(vocab_size=320, special_tokens=["<pad>", "<eos>"], **letters)
    )
    core.post_processor = processors.TemplateProcessing(single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", padding_side=side, model_max_length=64)


def write_folder(folder: Path, family: str, pooling: Any, side: str) -> str:
    torch.manual_seed(0)
    config = CONFIGS[family]()
    backbone = T5EncoderModel(config) if family == "T5 encoder" else AutoModel.from_config(config)
    backbone.eval().save_pretrained(folder / "plain")
    make_tokenizer(side).save_pretrained(folder / "plain")
    parts = [modules.Transformer(str(folder / "plain"), max_seq_length=LONGEST), modules.Pooling(WIDTH, pooling_mode=pooling)]
    theirs.SentenceTransformer(modules=[*parts, modules.Normalize()], device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def assert_same_direction(ours: np.ndarray, expected: np.ndarray) -> None:
    cosines = (ours * expected).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(expected, axis=1)
    assert (cosines > 0.99999).all(), cosines


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", CONFIGS)
def test_vectors_are_those_of_sentence_transformers(family, side, tmp_path):
    for pooling in [*MODES, ["lasttoken", "mean"]]:
        folder = write_folder(tmp_path / str(pooling), family, pooling, side)
        if side == "left" and family in COUNTS_FROM_PADDING:
            with pytest.raises(BadInput, match="padding_side: left: this model counts positions from the padding on"):
                load_encoder(folder)
            continue
        expected = theirs.SentenceTransformer(folder, device="cpu").encode(TEXTS, batch_size=3)
        assert_same_direction(load_encoder(folder).encode_query(TEXTS), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", [family for family in CONFIGS if family not in NO_CUT])
def test_a_student_cut_from_it_is_written_and_read_again(family, tmp_path):
    """Two of three layers: the folder gives the same vectors, here and in sentence-transformers."""
    teacher = load_local_teacher(write_folder(tmp_path, family, "lasttoken", "right"), "fp32")
    student = StudentFromTeacher(2).make_student(TeacherSpace(teacher.maker, teacher.width, normalized=True))
    vectors = student.eval().encode_query(TEXTS)
    student.save_pretrained(tmp_path / "student")
    again = load_encoder(str(tmp_path / "student"))
    assert again.backbone.config.num_hidden_layers == 2 and again.fingerprint() == student.fingerprint()
    assert_same_direction(again.encode_query(TEXTS), vectors)
    assert_same_direction(vectors, theirs.SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(TEXTS, batch_size=3))
    assert not np.allclose(vectors, load_maker(teacher.maker).query.encode_query(TEXTS), atol=1e-3)
