"""Encoders without a transformer: the mean of the rows of a table of tokens, in folders that sentence-transformers reads and writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import make_dense, make_encoder
from family_tokenizers import TOKENIZERS
from safetensors.torch import load_file, save_file
from static_encoders import PROMPTS, WIDTH, count_rows, make_rows, make_static
from teacher_families import TEXTS

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.modules import LayerNorm
from distill.encoders.pooling import Pooling
from distill.encoders.towers import Towers, load_towers
from distill.evaluation.latency import measure_query_latency, one_core, pytorch_path
from distill.records import BadInput

theirs = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.models")


def open_theirs(folder: Path):
    """In float64: in float32 its sum of the rows of 10,000 words is off by 1e-4."""
    return theirs.SentenceTransformer(str(folder), device="cpu").double()


def assert_same(ours: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("family", TOKENIZERS)
def test_sentence_transformers_reads_what_is_written(family, tmp_path):
    encoder = make_static(family)
    encoder.save_pretrained(tmp_path / "ours")
    model, again = open_theirs(tmp_path / "ours"), load_encoder(str(tmp_path / "ours"))
    assert [type(module).__name__ for module in model] == ["StaticEmbedding", "Normalize"]
    assert again.fingerprint() == encoder.fingerprint() and again.settings == encoder.settings
    for name in ("encode_query", "encode_document"):
        vectors = getattr(encoder, name)(TEXTS)
        assert_same(vectors, getattr(model, name)(TEXTS))
        np.testing.assert_array_equal(getattr(again, name)(TEXTS), vectors)


@pytest.mark.parametrize("family", TOKENIZERS)
def test_what_sentence_transformers_writes_is_read(family, tmp_path):
    """Its tokenizer keeps a template of special tokens, which it leaves out."""
    core = TOKENIZERS[family]().backend_tokenizer
    parts = [modules.StaticEmbedding(core, embedding_weights=make_rows(core)), modules.Dense(WIDTH, 8), modules.Normalize()]
    model = theirs.SentenceTransformer(modules=parts, device="cpu", prompts=PROMPTS)
    model.save_pretrained(str(tmp_path / "theirs"), create_model_card=False)
    encoder = load_encoder(str(tmp_path / "theirs"))
    assert encoder.width == 8 and encoder.parameter_count() == sum(parameter.numel() for parameter in model.parameters())
    model.double()
    assert_same(encoder.encode_query(TEXTS), model.encode_query(TEXTS))
    for text in TEXTS:
        assert_same(encoder.encode_query(text), model.encode_query(text))


def test_texts_without_tokens_are_zero_alone_and_beside_others():
    encoder = make_static(prompts={"query": "", "document": ""})
    assert encoder.encode_query("").tolist() == encoder.encode_query(["", "hello"])[0].tolist() == [0.0] * WIDTH
    assert encoder.encode_query([""] * 2).shape == (2, WIDTH) and encoder.encode_query([]).shape == (0, WIDTH)


def test_a_text_is_the_mean_of_its_rows():
    encoder = make_static(head=(LayerNorm(WIDTH),), prompts={"query": "", "document": ""})
    rows, ids = encoder.word_table.weight, [encoder.tokenizer.convert_tokens_to_ids(word) for word in ("the", "river")]
    assert encoder.token_ids(["the river"], "query") == [ids]
    expected = torch.nn.functional.layer_norm((rows[ids[0]] + rows[ids[1]]) / 2, (WIDTH,))
    assert_same(encoder.encode_query("the river"), expected.detach().numpy())


def test_texts_are_cut_where_the_folder_says_so(tmp_path):
    """By both libraries, after the first two tokens of prompt and text."""
    encoder = make_static(max_length=4)
    encoder.save_pretrained(tmp_path / "short")
    again = load_encoder(str(tmp_path / "short"))
    assert again.settings.max_length == 4 and load_encoder(str(tmp_path / "short"), max_length=9).settings.max_length == 9
    texts = ["hello world one two three", "hello"]
    assert_same(again.encode_query(texts), open_theirs(tmp_path / "short").encode_query(texts))
    assert_same(again.encode_query(texts[0]), again.encode_query("hello world four"))


@pytest.mark.parametrize("stored", ["float32", "float16", "int8"])
@pytest.mark.parametrize("parts", ["embeddings", "mapping", "mapping and weights"])
def test_tables_of_model2vec_are_read(parts, stored, tmp_path):
    """At the top of the folder, as on the hub; a vocabulary that shares rows has a mapping, and tokens have weights."""
    core = TOKENIZERS["BERT"]().backend_tokenizer
    count = count_rows(core)
    rows = (make_rows(core) * 40).to(getattr(torch, stored))
    mapping, weights = torch.arange(count).flip(0) // 2, torch.linspace(0.1, 2.0, count).double()
    written = {
        "embeddings": rows,
        **({"mapping": mapping} if "mapping" in parts else {}),
        **({"weights": weights} if "weights" in parts else {}),
    }
    save_file(written, tmp_path / "model.safetensors")
    core.save(str(tmp_path / "tokenizer.json"))
    entries = [("StaticEmbedding", "."), ("Normalize", "1_Normalize")]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (kind, path) in enumerate(entries)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    expected = rows.float()
    if "mapping" in parts:
        expected = expected[mapping]
    if "weights" in parts:
        expected = expected * weights[:, None].float()
    encoder = load_encoder(str(tmp_path))
    torch.testing.assert_close(encoder.word_table.weight.data, expected)
    if stored == "float32" and "weights" not in parts:
        assert_same(encoder.encode_query(TEXTS), open_theirs(tmp_path).encode_query(TEXTS))


def test_a_router_of_a_table_and_a_transformer_is_written_and_read(tmp_path):
    towers = Towers(make_static(), make_encoder("bert", width=WIDTH, prompts=PROMPTS))
    towers.save_pretrained(tmp_path / "router")
    again, model = load_towers(str(tmp_path / "router")), open_theirs(tmp_path / "router")
    texts = ["hello world", "what is the best river", "the garden"]
    assert again.fingerprint() == towers.fingerprint()
    assert_same(again.encode_query(texts), model.encode_query(texts))
    assert_same(again.encode_document(texts), model.encode_document(texts))


def test_latency_is_measured():
    encoder = make_static()
    with one_core([encoder]):
        measured = measure_query_latency({"student": pytorch_path(encoder)}, ["hello world"], rounds=3, warm_up=1)
    assert measured["student"]["query_latency_ms_p50"] > 0


def test_it_has_no_layers_and_no_other_pooling():
    encoder = make_static()
    with pytest.raises(BadInput, match=r"^the encoder is a table of tokens, without layers: choose a model with layers"):
        _ = encoder.backbone
    with pytest.raises(BadInput, match=r"^compile: the model is a table of tokens, without layers: leave it out$"):
        encoder.transformer.compile_layers()
    for pooling in (Pooling("max"), Pooling("mean", include_prompt=False), Pooling("cls", "mean")):
        with pytest.raises(BadInput, match="a TokenTable has none but the mean of its rows: take Pooling"):
            Encoder([encoder.transformer, pooling], encoder.tokenizer, encoder.settings)
    with pytest.raises(BadInput, match="Dense takes vectors 3 wide, those before it are 16"):
        Encoder([encoder.transformer, Pooling("mean"), make_dense(3, 4)], encoder.tokenizer, encoder.settings)


def test_damaged_folders_are_refused(tmp_path):
    make_static().save_pretrained(tmp_path / "static")
    folder = tmp_path / "static" / "0_StaticEmbedding"
    weights, words = load_file(folder / "model.safetensors"), (folder / "tokenizer.json").read_bytes()
    rows = weights["embedding.weight"]
    last = len(rows) - 1
    cases = [
        ({"embedding.weight": rows[:-1]}, f"its tokenizer has ids up to {last}, its table {last} rows: restore"),
        ({"table": rows}, "its weights are table: a table of tokens has embedding.weight, or embeddings"),
        ({"embeddings": rows[:0]}, r"its table of tokens is of shape \(0, 16\): it needs a row for each token"),
        ({"embeddings": rows, "mapping": torch.tensor([last + 1])}, "the weights of this StaticEmbedding are missing or broken: index"),
    ]
    for written, message in cases:
        save_file({name: part.contiguous() for name, part in written.items()}, folder / "model.safetensors")
        with pytest.raises(BadInput, match=f"0_StaticEmbedding: {message}"):
            load_encoder(str(tmp_path / "static"))
    (folder / "model.safetensors").write_bytes(b"half a table")
    with pytest.raises(BadInput, match=r"model\.safetensors: damaged .*: restore it"):
        load_encoder(str(tmp_path / "static"))
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"^max_length: 0: must be from 1 on"):
        load_encoder(str(tmp_path / "static"), max_length=0)
    (folder / "tokenizer.json").write_bytes(words[:40])
    with pytest.raises(BadInput, match=r"tokenizer\.json: missing, or no tokenizer \(.+\): restore it"):
        load_encoder(str(tmp_path / "static"))
