import numpy as np
import pytest
from commands import serve_alone
from families import make_folder
from plain_folders import GPT2, rewrite_json, save_folder
from transformers import GPT2Config

from distill.encoders.folder import load_encoder
from distill.encoders.onnx_encoder import MODEL, OnnxEncoder, load_tokenizer
from distill.export.onnx_graph import write_graph
from distill.records import BadInput

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "mpnet"])
def test_tokens_equal_those_of_the_encoder(family, tmp_path):
    encoder = load_encoder(str(make_folder(tmp_path / "encoder", family)))
    texts = ["garden", "what is the best river", " ".join(["old new fast slow"] * 10)]
    expected = encoder.pad(encoder.token_ids(texts, "query"))
    rows = load_tokenizer(tmp_path / "encoder").encode_batch(texts)
    assert [row.ids for row in rows] == expected.input_ids.tolist()
    assert [row.attention_mask for row in rows] == expected.attention_mask.tolist()


@pytest.fixture(scope="module")
def served_folder(tmp_path_factory):
    """A model whose tokenizer writes no special tokens, with its graph."""
    folder = tmp_path_factory.mktemp("served")
    encoder = load_encoder(str(save_folder(folder / "plain", GPT2Config(**{**GPT2, "n_layer": 1}))))
    encoder.save_pretrained(folder / "encoder")
    (folder / "encoder" / MODEL).parent.mkdir()
    write_graph(encoder, folder / "encoder" / MODEL)
    return folder / "encoder"


def test_a_string_is_one_query(served_folder):
    encoder, served, text = load_encoder(str(served_folder)), OnnxEncoder(served_folder), "what is the best river"
    for encode in (served.encode, served.encode_query):
        assert encode(text).shape == (encoder.width,)
        np.testing.assert_array_equal(encode(text), encode([text])[0])
        assert encode([text, "garden"]).shape == (2, encoder.width)
        assert encode([]).shape == encoder.encode_query([]).shape == (0, encoder.width)


@pytest.mark.parametrize("prompts", [{}, None, {"query": None}])
@pytest.mark.parametrize("pad", ["<pad>", None])
def test_texts_of_no_tokens_and_long_ones_have_the_vectors_of_the_encoder(prompts, pad, served_folder):
    """Also from a folder without prompts, or without a padding token."""
    encoder = load_encoder(str(served_folder))
    rewrite_json(served_folder / "tokenizer_config.json", pad_token=pad, eos_token="</s>")
    rewrite_json(served_folder / "config_sentence_transformers.json", prompts=prompts)
    served = OnnxEncoder(served_folder)
    for texts in ([""], ["", " "], ["river", "", "music garden " * 5000]):
        np.testing.assert_allclose(served.encode(texts), encoder.encode_query(texts), atol=1e-5)


def test_a_damaged_model_is_refused(tmp_path):
    make_folder(tmp_path / "encoder", "bert")
    (tmp_path / "encoder" / "onnx").mkdir()
    (tmp_path / "encoder" / MODEL).write_bytes(b"half of a model")
    with pytest.raises(BadInput, match=r"onnx/model\.onnx: ONNX Runtime cannot read it \(.*\): export again"):
        OnnxEncoder(tmp_path / "encoder")


def test_a_folder_without_a_model_is_refused(tmp_path):
    make_folder(tmp_path / "encoder", "bert")
    with pytest.raises(BadInput, match=r"onnx/model\.onnx: no ONNX model here: install the extra `onnx` and run distill export"):
        OnnxEncoder(tmp_path / "encoder")


def test_serving_needs_few_packages(served_folder):
    code = f"import distill; print(distill.OnnxEncoder({str(served_folder)!r}).encode_query('hello world').shape)"
    assert serve_alone(code) == str((load_encoder(str(served_folder)).width,))
