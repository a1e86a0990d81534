"""The card of an export, from what was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from families import make_encoder

from distill.export.model_card import public_name, render_card

PATHS = {
    name: {"file": file, "query_latency_ms_p50": p50, "query_latency_ms_p95": 2 * p50, "cosine_mean": 1.0, "cosine_min": 0.9994}
    for name, file, p50 in (("PyTorch", "student/model.safetensors", 4.0), ("ONNX int8", "student/onnx/model_qint8.onnx", 1.0))
}
SPEEDS = {"together": 100.0, "alone": 10.0}
INDEX = {"kind": "ivf", "documents": 9, "queries": 3, "recall@10": 0.98, "queries_per_second": {"exact": SPEEDS, "index": SPEEDS}}
RESULTS = {
    "agreement": {"overlap@10": 0.7, "cosine": 0.9, "split": "test", "queries": 12},
    "dataset": "texts/test",
    "queries": 12,
    "systems": {"teacher": {"ndcg@10": 0.5, "mrr@10": 0.25}, "student": {"ndcg@10": 0.45, "mrr@10": 0.2}},
    "retention": {"ndcg@10": {"value": 0.9, "ci95": [0.85, 0.95]}, "mrr@10": {"value": 0.8, "ci95": [0.7, 0.9]}},
}


@dataclass
class FakeRun:
    path: Path
    model: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 0.001})
    unlearnt_jobs: int = 0

    def settings(self) -> dict[str, Any]:
        return {"model": self.model}


def card(path: Path, teacher: bool = True, serve: str | None = None, index: dict[str, Any] | None = None, prompt: str = "") -> str:
    student = make_encoder("bert", layers=1, prompts={"query": prompt, "document": ""})
    latency = {"processor": "a processor", "queries": 30, "paths": PATHS, "serve": serve} if serve else None
    run: Any = FakeRun(path)
    return render_card(run, student, make_encoder("bert") if teacher else None, "acme/teacher", teacher, latency, index)


def test_results_are_a_table(tmp_path):
    assert f"Nothing yet: `distill evaluate {tmp_path.name}` before exporting." in card(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    table = """\
On texts/test, 12 queries:

| | ndcg@10 | mrr@10 |
|---|---|---|
| teacher | 0.5000 | 0.2500 |
| student | 0.4500 | 0.2000 |
| kept, 95% interval | 90.0% [85.0%, 95.0%] | 80.0% [70.0%, 90.0%] |

agreement on 12 test queries: overlap@10 0.700, cosine 0.900

## Trained with
"""
    assert table in card(tmp_path)


def test_the_pair_is_shown_where_there_is_one(tmp_path):
    assert 'SentenceTransformer("router")' in card(tmp_path)
    assert "router" not in card(tmp_path, teacher=False)


@pytest.mark.parametrize(("serve", "encode"), [(None, "encode_query"), ("PyTorch", "encode_query"), ("ONNX int8", "encode")])
def test_the_index_is_searched_by_the_way_that_is_recommended(serve, encode, tmp_path):
    text = card(tmp_path, serve=serve, index=INDEX)
    assert f'index.search(student.{encode}(["how do I ..."]), 10)' in text
    assert ('OnnxEncoder("student", model="onnx/model_qint8.onnx")' in text) == (serve == "ONNX int8")
    assert ("| ONNX int8: `student/onnx/model_qint8.onnx` | 1.00 | 2.00 | 1.0000 | 0.9994 |" in text) == (serve is not None)


def test_the_prompt_stands_before_a_query_to_the_graph(tmp_path):
    assert """tokenizer.encode("how do I ...")""" in card(tmp_path, serve="ONNX int8")
    assert """tokenizer.encode("it's: " + "how do I ...")""" in card(tmp_path, serve="ONNX int8", prompt="it's: ")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/me/models/acme/small", "acme/small"),
        ("/home/me/small", "small"),
        ("/home/me", "model"),
        ("/Users/me/acme/small/", "acme/small"),
        ("/data/acme/small", "acme/small"),
        ("/root/small", "small"),
        ("~/small", "small"),
        ("~me/models/small", "models/small"),
        ("../small", "small"),
        ("file:///home/me/small", "small"),
        (r"C:\Users\me\models\small", "models/small"),
        ("/home/me/.cache/huggingface/hub/models--acme--small/snapshots/0f3a", "acme/small"),
        ("acme/small", "acme/small"),
        ("https://api.acme.org/v1", "https://api.acme.org/v1"),
        ("acme\n---\x1b[2J", r"acme\n---\x1b[2J"),
        ("/", "model"),
    ],
)
def test_a_path_of_this_machine_is_not_shown(name, shown):
    assert public_name(name) == shown


def test_settings_have_no_path_of_this_machine(tmp_path):
    """Nor has anything else on the card."""
    here = str(tmp_path)
    model = {
        "student": {"class_path": "distill.encoders.students.StudentFromBackbone", "init_args": {"name": f"{here}/backbones/small"}},
        "start_from": f"{here}/runs/first/checkpoints/best.ckpt",
        "losses": {"kl": {"init_args": {"teacher": f"{here}/cross"}}},
        f"{here}/key": [f"{here}/a", "~/b", 0.5],
    }
    run: Any = FakeRun(tmp_path / "run", model)
    text = render_card(run, make_encoder("bert", layers=1), None, f"{here}/acme/small")
    assert here not in text and "~" not in text
    assert '"name": "backbones/small"' in text and '"start_from": "checkpoints/best.ckpt"' in text and "index of acme/small" in text
