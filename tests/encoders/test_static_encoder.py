"""Static students served by NumPy give the vectors of `load_encoder`, for any tokenizer, text and module behind the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import serve_alone
from families import make_dense, make_folder
from family_tokenizers import TOKENIZERS
from plain_folders import rewrite_json
from safetensors.torch import load_file, save_file
from static_encoders import PROMPTS, WIDTH, make_static
from teacher_families import TEXTS

from distill.encoders.folder import load_encoder
from distill.encoders.modules import LayerNorm, Normalize
from distill.encoders.static_encoder import StaticEncoder
from distill.records import BadInput

HEADS = {
    "none": (),
    "normalize": (Normalize(),),
    "dense": (make_dense(WIDTH, 5), Normalize()),
    "tanh": (make_dense(WIDTH, 5, bias=False, activation="Tanh"),),
    "norm": (LayerNorm(WIDTH), Normalize()),
}


def write(folder: Path, *head, family: str = "BERT", **settings) -> Path:
    make_static(family, head, **settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", TOKENIZERS)
def test_vectors_are_those_of_the_encoder(family, tmp_path):
    folder = write(tmp_path / "static", Normalize(), family=family)
    encoder, served = load_encoder(str(folder)), StaticEncoder(folder)
    for name in ("encode_query", "encode_document"):
        np.testing.assert_allclose(getattr(served, name)(TEXTS), getattr(encoder, name)(TEXTS), atol=1e-6)
    assert served.width == encoder.width and served.prompts == PROMPTS


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("similarity", ["dot", "cosine", None])
def test_modules_behind_the_table_do_the_same(head, similarity, tmp_path):
    folder = write(tmp_path / "static", *HEADS[head], max_length=7)
    rewrite_json(folder / "config_sentence_transformers.json", similarity_fn_name=similarity)
    encoder, served = load_encoder(str(folder)), StaticEncoder(folder)
    np.testing.assert_allclose(served.encode_query(TEXTS), encoder.encode_query(TEXTS), atol=1e-6)
    assert served.encode_query("hello").shape == (encoder.width,) and served.encode_query([]).shape == (0, encoder.width)


def test_half_precision_and_parts_of_model2vec_are_read(tmp_path):
    folder = write(tmp_path / "static", Normalize())
    path = folder / "0_StaticEmbedding" / "model.safetensors"
    rows = load_file(path)["embedding.weight"].half()
    save_file({"embeddings": rows, "mapping": torch.arange(len(rows)).flip(0), "weights": torch.linspace(1, 2, len(rows))}, path)
    expected = load_encoder(str(folder)).encode_query(TEXTS)
    np.testing.assert_allclose(StaticEncoder(folder).encode_query(TEXTS), expected, atol=1e-6)


def test_what_numpy_cannot_compute_is_refused(tmp_path):
    gelu = write(tmp_path / "gelu", make_dense(WIDTH, 5, activation="GELU"))
    with pytest.raises(BadInput, match="1_Dense: a Dense with GELU, or with its residual: read it with load_encoder"):
        StaticEncoder(gelu)
    with pytest.raises(BadInput, match="begins with Transformer, not with StaticEmbedding: read it with load_encoder, or with OnnxEncoder"):
        StaticEncoder(make_folder(tmp_path / "bert", "bert"))
    with pytest.raises(BadInput, match=r"modules\.json: no module list here"):
        StaticEncoder(tmp_path)
    folder = write(tmp_path / "static", Normalize())
    rewrite_json(folder / "config_sentence_transformers.json", truncate_dim=3)
    with pytest.raises(BadInput, match="truncate_dim: 3: read it with load_encoder"):
        StaticEncoder(folder)
    plain = write(tmp_path / "plain", LayerNorm(WIDTH))
    rewrite_json(plain / "config_sentence_transformers.json", similarity_fn_name="euclidean")
    with pytest.raises(BadInput, match="similarity_fn_name: euclidean: inner products rank otherwise: set it to cosine or dot"):
        StaticEncoder(plain)
    text = (plain / "modules.json").read_text().replace("sentence_transformers.models.LayerNorm", "mine.Gate")
    (plain / "modules.json").write_text(text)
    with pytest.raises(BadInput, match=r"1_LayerNorm: its module is of the class mine\.Gate: read it with load_encoder"):
        StaticEncoder(plain)


def test_damaged_files_are_refused(tmp_path):
    folder = write(tmp_path / "static", Normalize())
    first = folder / "0_StaticEmbedding"
    whole = load_file(first / "model.safetensors")["embedding.weight"]
    save_file({"embedding.weight": whole[:5].contiguous()}, first / "model.safetensors")
    with pytest.raises(BadInput, match="its table 5 rows: restore the one that belongs to the other"):
        StaticEncoder(folder)
    (first / "model.safetensors").write_bytes(b"half a table")
    with pytest.raises(BadInput, match=r"model\.safetensors: missing, damaged, or of numbers that NumPy has not \(.+\): read it"):
        StaticEncoder(folder)
    save_file({"embedding.weight": whole}, first / "model.safetensors")
    (first / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"tokenizer\.json: missing, or no tokenizer \(.+\): restore it"):
        StaticEncoder(folder)


def test_prompts_are_read_as_load_encoder_reads_them(tmp_path):
    """A prompt of passages is one of documents; what is no text is refused by both."""
    make_static().save_pretrained(tmp_path / "student")
    settings = tmp_path / "student" / "config_sentence_transformers.json"
    rewrite_json(settings, prompts={"query": "find ", "passage": "river "})
    one, other = StaticEncoder(tmp_path / "student"), load_encoder(str(tmp_path / "student"))
    for role in ("query", "document"):
        np.testing.assert_allclose(one.encode(["old garden"], role), other.encode(["old garden"], role).numpy(), atol=1e-6)
    assert not np.allclose(one.encode(["old garden"], "query"), one.encode(["old garden"], "document"))
    for prompts in ({"query": 3}, [1]):
        rewrite_json(settings, prompts=prompts)
        with pytest.raises(BadInput):
            StaticEncoder(tmp_path / "student")


@pytest.mark.parametrize("modules", [[1], [{"type": "x"}]], ids=str)
def test_odd_lists_of_modules_are_refused(tmp_path, modules):
    make_static().save_pretrained(tmp_path / "student")
    (tmp_path / "student" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(BadInput, match="not a model folder, or a damaged one"):
        StaticEncoder(tmp_path / "student")


def test_serving_needs_few_packages(tmp_path):
    folder = write(tmp_path / "static", Normalize())
    assert serve_alone(f"import distill; print(distill.StaticEncoder({str(folder)!r}).encode_query('hello world').shape)") == "(16,)"
