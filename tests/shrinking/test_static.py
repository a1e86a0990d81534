"""A whole job whose student is a table of tokens: trained, measured in NumPy too, reported, exported, and continued."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import distill as verb
from shrink_world import MINUTES, make_texts

import distill
from distill.encoders.static_encoder import StaticEncoder
from distill.records import BadInput

QUERIES = make_texts(400, 9, seed=1)


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory, teacher_folder) -> distill.Run:
    out = tmp_path_factory.mktemp("static") / "run"
    documents = [{"id": f"d{i}", "text": text} for i, text in enumerate(make_texts(20, 25, seed=2))]
    return distill.shrink(str(teacher_folder), queries=QUERIES, documents=documents, out=str(out), size="static", minutes=MINUTES)


def test_it_is_measured_in_numpy_too(shrunk):
    student = shrunk.student
    assert student.parameter_count() == student.word_table.weight.numel() == shrunk.results.systems["student"]["params"]
    assert shrunk.results.values["latency"]["paths"]["NumPy"]["query_latency_ms_p50"] > 0
    assert "the student without PyTorch: NumPy" in str(shrunk.results) + (shrunk.path / "report.html").read_text()


def test_its_export_needs_no_graph(shrunk):
    export = shrunk.path / "export"
    served = StaticEncoder(export / "student")
    np.testing.assert_allclose(served.encode_query(QUERIES[:20]), shrunk.student.encode_query(QUERIES[:20]), atol=1e-6)
    latency = json.loads((export / "latency.json").read_text())
    assert list(latency["paths"]) == ["PyTorch", "NumPy"] and latency["paths"]["NumPy"]["cosine_min"] > 0.9999
    assert latency["paths"]["NumPy"]["file"] == "student/0_StaticEmbedding/model.safetensors"
    assert (export / latency["paths"]["NumPy"]["file"]).is_file() and not (export / "student" / "onnx").exists()
    card = (export / "README.md").read_text()
    assert "texts of any length" in card and ("StaticEncoder(" in card) == (latency["serve"] == "NumPy")


def test_it_goes_on_with_new_queries(shrunk, tmp_path):
    again = distill.shrink(continue_from=str(shrunk.path), queries=make_texts(100, 9, seed=7), out=str(tmp_path / "again"), minutes=MINUTES)
    assert not again.student.transformer.has_layers


def test_sizes_are_read_on_the_command_line(teacher_folder, tmp_path, capsys):
    job = ["shrink", "--teacher", teacher_folder, "--queries", Path(__file__), "--out", tmp_path / "run"]
    assert verb(*job, "--size", "small") == 2
    printed = capsys.readouterr().err
    assert "size" in printed and "small" in printed and printed.count("\n") == 1
    for size in (0, True, "small"):
        with pytest.raises(BadInput, match="the number of layers to keep, 1 or more, static for a table of tokens, or auto"):
            distill.shrink(str(teacher_folder), queries=QUERIES, out=str(tmp_path / "run"), size=size)
    with pytest.raises(BadInput, match="size: of a student of the teacher's own, but the student begins from --backbone"):
        distill.shrink(str(teacher_folder), queries=QUERIES, out=str(tmp_path / "run"), size="static", backbone=str(teacher_folder))
