from pathlib import Path

import numpy as np
import pytest
import torch
from families import make_dense, make_encoder
from plain_folders import rewrite_json
from static_encoders import make_static

from distill.encoders.encoder import Encoder
from distill.encoders.modules import EncoderModule, Normalize
from distill.encoders.onnx_encoder import MODEL, OnnxEncoder
from distill.export.onnx_graph import NoGraph, check_equal, write_graph, write_quantised
from distill.export.serving import open_exact_path

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TEXTS = ["garden", "what is the best river", " ".join(["small planet letter"] * 3), "how to find a near red market"]
TOO_LONG = " ".join(["old new fast slow"] * 10)  # more tokens than an encoder of 16 reads


def export_graph(encoder: Encoder, folder: Path) -> OnnxEncoder:
    encoder.save_pretrained(folder)
    (folder / MODEL).parent.mkdir()
    write_graph(encoder, folder / MODEL)
    return OnnxEncoder(folder)


def fail(reason: str) -> None:
    raise NoGraph(reason)


def test_what_serves_a_student_before_it_is_exported_gives_its_vectors(tmp_path, monkeypatch):
    encoder = make_encoder("bert", prompts={"query": "find ", "document": "a "}, layers=1)
    path = open_exact_path(encoder, tmp_path / "layers", TEXTS)
    np.testing.assert_allclose(path(TEXTS[1]), encoder.encode(TEXTS[1:2], "query").numpy(), atol=1e-5)
    table = make_static()
    np.testing.assert_allclose(
        open_exact_path(table, tmp_path / "table", TEXTS)(TEXTS[1]), table.encode(TEXTS[1:2], "query").numpy(), atol=1e-6
    )
    with monkeypatch.context() as patch:
        patch.setattr("distill.export.serving.check_equal", lambda *_: fail("other vectors"))
        assert open_exact_path(encoder, tmp_path / "unlike", TEXTS) is None
    monkeypatch.setattr("distill.export.serving.missing_packages", lambda: ["onnxruntime"])
    assert open_exact_path(encoder, tmp_path / "pytorch", TEXTS) is None


@pytest.mark.parametrize(
    ("pooling", "head"),
    [
        ("mean", [Normalize()]),
        ("cls", [make_dense(16, 24, activation="Tanh"), Normalize()]),
        ("mean", [make_dense(16, 8, bias=False)]),
        ("cls", []),
        ("lasttoken", [Normalize()]),
        ("weightedmean", []),
        ("mean_sqrt_len_tokens", []),
        ("max", []),
    ],
)
def test_graph_equals_pytorch(pooling, head, tmp_path):
    """Whatever comes behind the layers; test_family_graphs.py has every kind of layer."""
    encoder = make_encoder("bert", pooling, head=head, prompts={"query": "find ", "document": "a "}, layers=1)
    served = export_graph(encoder, tmp_path / "student")
    for texts in (*([text] for text in TEXTS), TEXTS, [TOO_LONG], [TEXTS[0], TOO_LONG], TEXTS * 5):
        for role in ("query", "document"):
            expected = encoder.encode(texts, role)
            torch.testing.assert_close(torch.from_numpy(served.encode(texts, role)), expected, atol=1e-5, rtol=0)
    check_equal(encoder, served, TEXTS)
    assert served.encode(TEXTS).dtype == np.float32


def test_writing_leaves_the_encoder_as_it_was(tmp_path):
    encoder = make_encoder("bert", layers=1).train()
    before, attention = encoder.fingerprint(), encoder.backbone.config._attn_implementation
    write_graph(encoder, tmp_path / "model.onnx")
    assert encoder.training
    assert encoder.fingerprint() == before
    assert encoder.backbone.config._attn_implementation == attention


def test_weights_in_8_bits(tmp_path):
    """The products' weights shrink to a quarter, the vectors stay close and differ."""
    encoder = make_encoder("bert", width=128, layers=2)
    served = export_graph(encoder, tmp_path / "student")
    write_quantised(tmp_path / "student" / MODEL, tmp_path / "student" / "onnx" / "small.onnx")
    small = OnnxEncoder(tmp_path / "student", model="onnx/small.onnx")
    cosines = (small.encode(TEXTS) * served.encode(TEXTS)).sum(axis=1)
    assert 0.995 < cosines.min() < 0.99999
    in_products = 2 * (4 * 128 * 128 + 2 * 128 * 256)  # two layers: queries, keys, values, output, and the wide layer's two
    saved = (tmp_path / "student" / MODEL).stat().st_size - (tmp_path / "student" / "onnx" / "small.onnx").stat().st_size
    assert saved == pytest.approx(3 * in_products, rel=0.1)


def test_another_models_graph_is_refused(tmp_path):
    served = export_graph(make_encoder("bert", layers=1), tmp_path / "student")
    with pytest.raises(NoGraph, match=r"differ from PyTorch's by \d\.\de-0\d of their length, on 'garden'"):
        check_equal(make_encoder("bert", layers=1, seed=5), served, TEXTS)


def test_a_graph_that_fails_at_some_length_is_refused(tmp_path):
    encoder = make_encoder("bert", layers=1)
    export_graph(encoder, tmp_path / "student")
    rewrite_json(tmp_path / "student" / "sentence_bert_config.json", max_seq_length=60)  # the model has 40 positions
    with pytest.raises(NoGraph, match="ONNX Runtime fails at texts that PyTorch reads: ") as error:
        check_equal(encoder, OnnxEncoder(tmp_path / "student"), [*TEXTS, TOO_LONG])
    assert "\n" not in str(error.value)


def test_what_onnx_cannot_say_is_named(tmp_path):
    class Undecided(EncoderModule):
        def forward(self, vectors):
            return vectors if vectors.sum().item() > 0 else -vectors  # depends on values: no graph

    with pytest.raises(NoGraph, match=r"torch\.onnx\.export: Could not guard on data-dependent expression") as error:
        write_graph(make_encoder("bert", head=[Undecided()], layers=1), tmp_path / "model.onnx")
    assert str(error.value).isprintable()
