import subprocess
import sys

import pytest
from families import make_folder

from distill.encoders.folder import load_encoder
from distill.export.onnx_encoder import OnnxEncoder, load_tokenizer
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


def test_a_folder_without_a_model_is_refused(tmp_path):
    make_folder(tmp_path / "encoder", "bert")
    with pytest.raises(BadInput, match=r"onnx/model\.onnx: no ONNX model here: install the extra `onnx` and run distill export"):
        OnnxEncoder(tmp_path / "encoder")


def test_serving_imports_no_torch():
    heavy = "[name for name in ('torch', 'transformers') if name in sys.modules]"
    code = f"import sys, onnxruntime, tokenizers, distill.export.onnx_encoder; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
