"""The whole path on a small world, and what it leaves checked against other programs: encode, train, evaluate, search, export."""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import distill, furthest, train_arguments
from conftest import make_source

from distill.encoders.onnx_encoder import OnnxEncoder
from distill.evaluation.latency import measure_query_latency

sentence_transformers = pytest.importorskip("sentence_transformers")
ir_measures = pytest.importorskip("ir_measures")

METRICS = {"mrr@10": "RR@10", "ndcg@10": "nDCG@10", "recall@100": "R@100"}
LATENCY = ("query_latency_ms_p50", "query_latency_ms_p95")
EPOCHS = 4


@dataclass
class Left:
    """Where the verbs left what."""

    teacher: Path
    source: Path
    store: Path
    run: Path

    def texts(self, name: str) -> dict[str, str]:
        lines = (self.source / name).read_text().splitlines()
        return dict(line.split("\t") for line in lines)

    def documents(self) -> np.ndarray:
        """[N, D] as they lie on disk."""
        return np.load(self.store / "documents" / "00000.npy").astype(np.float32)

    def teacher_queries(self, split: str) -> np.ndarray:
        return np.load(self.store / f"queries-{split}" / "00000.npy").astype(np.float32)

    def results(self) -> dict[str, Any]:
        return json.loads((self.run / "results.json").read_text())

    def log(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in (self.run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", autouse=True)
def few_latency_rounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.evaluation.costs.measure_query_latency", functools.partial(measure_query_latency, rounds=5, warm_up=1))
        yield


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Left:
    root = tmp_path_factory.mktemp("path")
    made = Left(teacher_folder, make_source(root / "texts", documents=240, train=192, dev=30, seed=3), root / "store", root / "run")
    source = ["--source", "MsMarcoTsv", "--source.root", made.source]
    assert distill("encode", "--teacher", teacher_folder, *source, "--precision", "fp32", "--out", made.store) == 0
    assert distill(*train_arguments(made.source, made.store, made.run, "--trainer.max_epochs", EPOCHS)) == 0
    assert distill("evaluate", made.run) == 0
    assert distill("export", made.run, "--router") == 0
    return made


@pytest.fixture(scope="module")
def student(left: Left) -> Any:
    return load(left.run / "student")


def load(folder: Path) -> Any:
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def rankings(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """[Q, N] rows of documents, best first."""
    return np.argsort(-(queries.astype(np.float64) @ documents.astype(np.float64).T), axis=1, kind="stable")


def overlap_at_10(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean([len(set(a[:10]) & set(b[:10])) / 10 for a, b in zip(one, other, strict=True)]))


def measured(ranked: np.ndarray, query_ids: list[str], document_ids: list[str], qrels: Path) -> dict[str, float]:
    """What ir_measures makes of the first hundred of each ranking."""
    scored = ({document_ids[row]: 1.0 / rank for rank, row in enumerate(rows[:100], 1)} for rows in ranked)
    run = dict(zip(query_ids, scored, strict=True))
    measures = {name: ir_measures.parse_measure(measure) for name, measure in METRICS.items()}
    found = ir_measures.calc_aggregate(measures.values(), list(ir_measures.read_trec_qrels(str(qrels))), run)
    return {name: found[measure] for name, measure in measures.items()}


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and when it was written."""
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_run_folder_is_whole(left: Left) -> None:
    names = ["config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "student/modules.json", "metrics.jsonl", "results.json"]
    assert [name for name in names if not (left.run / name).is_file()] == []
    assert [str(path) for path in left.run.rglob("*") if path.name.endswith(".tmp")] == []


def test_store_holds_what_the_teacher_writes(left: Left) -> None:
    teacher = load(left.teacher)
    assert np.allclose(teacher.encode(list(left.texts("collection.tsv").values())), left.documents(), atol=1e-3)
    assert np.allclose(teacher.encode(list(left.texts("queries.test.tsv").values())), left.teacher_queries("test"), atol=1e-3)


def test_results_have_the_fields_of_the_contract(left: Left) -> None:
    results = left.results()
    assert results["dataset"] == "texts/test"
    assert results["queries"] == 30
    assert list(results["systems"]) == ["teacher", "student"]
    for system in results["systems"].values():
        assert set(system) == {*METRICS, "params", *LATENCY}
        assert 0 < system["query_latency_ms_p50"] <= system["query_latency_ms_p95"]
    for name in METRICS:
        low, high = results["retention"][name]["ci95"]
        assert low <= results["retention"][name]["value"] <= high
    assert {"commit", "command", "packages", "processor", "time", "teacher", "student", "texts"} <= set(results["provenance"])


def test_results_equal_another_programs(left: Left, student: Any) -> None:
    results, queries = left.results(), left.texts("queries.test.tsv")
    document_ids = list(left.texts("collection.tsv"))
    vectors = {"teacher": left.teacher_queries("test"), "student": student.encode(list(queries.values()))}
    ranked = {name: rankings(found, left.documents()) for name, found in vectors.items()}
    expected = {name: measured(rows, list(queries), document_ids, left.source / "qrels.test.tsv") for name, rows in ranked.items()}
    for name, metrics in expected.items():
        assert {metric: results["systems"][name][metric] for metric in METRICS} == pytest.approx(metrics, abs=1e-6)
    assert expected["student"] != expected["teacher"]
    assert 0 < expected["student"]["recall@100"] < 1
    kept = {metric: results["retention"][metric]["value"] for metric in METRICS}
    assert kept == pytest.approx({metric: expected["student"][metric] / expected["teacher"][metric] for metric in METRICS}, abs=1e-6)
    lengths = [np.linalg.norm(found, axis=1) for found in vectors.values()]
    cosines = (vectors["teacher"] * vectors["student"]).sum(axis=1) / (lengths[0] * lengths[1])
    assert results["agreement"]["cosine"] == pytest.approx(cosines.mean(), abs=1e-6)
    assert results["agreement"]["overlap@10"] == pytest.approx(overlap_at_10(ranked["teacher"], ranked["student"]), abs=1e-6)
    # transformers adds a pooler of its own to what it loads; nobody reads it
    counts = [tensor.numel() for name, tensor in student.named_parameters() if "pooler" not in name]
    assert results["systems"]["student"]["params"] == sum(counts)


def test_trec_runs_read_back(left: Left, student: Any) -> None:
    queries, document_ids = left.texts("queries.test.tsv"), list(left.texts("collection.tsv"))
    scores = student.encode(list(queries.values())) @ left.documents().T  # [Q, N]
    lines = list(ir_measures.read_trec_run(str(left.run / "runs" / "test" / "student.trec")))
    for query, expected in zip(queries, scores, strict=True):
        found = [line for line in lines if line.query_id == query]
        assert len({line.doc_id for line in found}) == 100
        assert [line.score for line in found] == pytest.approx(np.sort(expected)[::-1][:100], abs=1e-5)
        assert [expected[document_ids.index(line.doc_id)] for line in found] == pytest.approx([line.score for line in found], abs=1e-5)
        assert all(above.score > below.score for above, below in pairwise(found))  # whoever reads it sees no ties
    assert (left.run / "runs" / "test" / "teacher.trec").is_file()


def test_student_is_the_best_checkpoint(left: Left, student: Any) -> None:
    lines = [line for line in left.log() if "dev/overlap@10" in line]
    assert [line["epoch"] for line in lines] == list(range(EPOCHS))
    best = max(lines, key=lambda line: line["dev/overlap@10"])  # the first of equals
    checkpoint = torch.load(left.run / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    assert checkpoint["global_step"] == best["step"] + 1
    weights = {name.removeprefix("encoder.backbone."): tensor for name, tensor in checkpoint["state_dict"].items()}
    saved = {name: tensor for name, tensor in student[0].auto_model.state_dict().items() if "pooler" not in name}
    assert saved.keys() == weights.keys()
    assert all(torch.equal(saved[name], weights[name]) for name in saved)


def test_dev_metrics_of_training_equal_evaluate(left: Left, tmp_path: Path) -> None:
    assert distill("evaluate", left.run, "--split", "dev", "--out", tmp_path / "dev.json") == 0
    results = json.loads((tmp_path / "dev.json").read_text())
    best = max((line for line in left.log() if "dev/overlap@10" in line), key=lambda line: line["dev/overlap@10"])
    logged = {name: best[f"dev/{name}"] for name in METRICS}
    assert logged == pytest.approx({name: results["systems"]["student"][name] for name in METRICS}, abs=1e-6)  # logged in float32
    kept = {name: best[f"dev/retention_{name}"] for name in METRICS}
    assert kept == pytest.approx({name: results["retention"][name]["value"] for name in METRICS}, abs=1e-6)
    assert best["dev/overlap@10"] == pytest.approx(results["agreement"]["overlap@10"], abs=1e-6)
    assert best["dev/cosine"] == pytest.approx(results["agreement"]["cosine"], abs=1e-6)
    assert left.results()["dataset"] == "texts/test"  # --out left it alone


def test_training_learns(left: Left, student: Any) -> None:
    queries = list(left.texts("queries.dev.tsv").values())
    untrained = load(left.teacher)
    untrained[0].auto_model.encoder.layer = torch.nn.ModuleList(untrained[0].auto_model.encoder.layer[i] for i in (0, 3))
    teacher = rankings(left.teacher_queries("dev"), left.documents())
    before, after = (overlap_at_10(teacher, rankings(model.encode(queries), left.documents())) for model in (untrained, student))
    assert after > before + 0.1
    losses = [line["train/loss"] for line in left.log() if "train/loss" in line]
    assert len(losses) == EPOCHS * 12
    assert np.mean(losses[-12:]) < 0.8 * np.mean(losses[:12])


def test_config_of_a_run_makes_the_same_run_again(run_folder: Path, tmp_path: Path) -> None:
    assert distill("train", "-c", run_folder / "config.yaml", "--out", tmp_path / "again") == 0
    for name in ("last", "best"):
        assert furthest(run_folder / "checkpoints" / f"{name}.ckpt", tmp_path / "again" / "checkpoints" / f"{name}.ckpt") == 0
    before, now = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (run_folder, tmp_path / "again"))
    assert before | {"out": ""} == now | {"out": ""}


def test_every_verb_twice(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    store, run = files(left.store), files(left.run)
    source = ["--source", "MsMarcoTsv", "--source.root", left.source]
    assert distill("encode", "--teacher", left.teacher, *source, "--precision", "fp32", "--out", left.store) == 0
    assert distill(*train_arguments(left.source, left.store, left.run, "--trainer.max_epochs", EPOCHS)) == 0
    assert distill("export", left.run) == 0
    assert files(left.store) == store
    assert files(left.run) == run
    assert capsys.readouterr().out.count("done before") == 6  # documents and three splits, the student, the export


def test_evaluate_twice(left: Left) -> None:
    before = left.results()
    assert distill("evaluate", left.run) == 0
    now = left.results()
    for results in (before, now):
        results["provenance"].pop("time")
        for system in results["systems"].values():
            for name in LATENCY:
                system.pop(name)
    before["latency"].pop("paths")
    served = now["latency"].pop("paths")
    assert now["latency"] == {"split": "dev", "queries": 30, "threads": 1}
    assert list(served) == ["ONNX fp32", "ONNX int8"]  # which `export` left in the run folder
    assert all(0 < path["query_latency_ms_p50"] <= path["query_latency_ms_p95"] for path in served.values())
    assert now == before


def test_baselines(left: Left, tmp_path: Path) -> None:
    systems = {"same": str(left.run / "runs" / "test" / "student.trec"), "model": str(left.teacher)}
    assert distill("evaluate", left.run, "--baselines", json.dumps(systems), "--out", tmp_path / "results.json") == 0
    found = json.loads((tmp_path / "results.json").read_text())["systems"]
    assert list(found) == ["teacher", "student", "same", "model"]
    assert found["same"] == {name: pytest.approx(found["student"][name], abs=1e-12) for name in METRICS}
    # the stored queries are float16, the model's own float32
    assert found["model"] == {name: pytest.approx(found["teacher"][name], abs=0.01) for name in METRICS}


def test_search(left: Left, student: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill("search", left.run, "what is the old river", "--k", "3") == 0
    shown = capsys.readouterr().out
    documents = left.texts("collection.tsv")
    scores = student.encode(["what is the old river"]) @ left.documents().T
    ids = [list(documents)[row] for row in np.argsort(-scores[0])[:3]]
    lines = [line.split() for line in shown.splitlines() if line.startswith("  ") and line.strip()[0].isdigit() and "." in line.split()[0]]
    assert [(words[0], words[2]) for words in lines] == [(f"{i}.", id_) for i, id_ in enumerate(ids, 1)]
    assert [float(words[1]) for words in lines] == pytest.approx(sorted(scores[0])[::-1][:3], abs=1e-3)
    assert documents[ids[0]][:60] in shown


def test_search_reads_queries_from_a_pipe(left: Left, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("red river\n\nold music\n"))
    assert distill("search", left.run, "-", "--k", "2") == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line in ("red river", "old music")] == ["red river", "old music"]
    assert shown.count("  2. ") == 2


def test_search_reads_what_is_not_utf8(left: Left, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"river caf\xe9\n"), encoding="utf-8"))
    assert distill("search", left.run, "-", "--k", "1") == 0
    assert distill("search", left.run, b"river caf\xe9".decode(errors="surrogateescape"), "--k", "1") == 0
    assert capsys.readouterr().out.count("  1. ") == 2


def test_export_loads_elsewhere(left: Left, student: Any) -> None:
    queries, documents = list(left.texts("queries.test.tsv").values()), list(left.texts("collection.tsv").values())[:20]
    exported, router, teacher = load(left.run / "export" / "student"), load(left.run / "export" / "router"), load(left.teacher)
    ours = student.encode(queries)
    for found in (exported.encode(queries), exported.encode_query(queries), router.encode_query(queries)):
        assert cosines(found, ours).min() >= 0.99999
    assert cosines(router.encode_document(documents), teacher.encode(documents)).min() >= 0.99999
    assert cosines(router.encode_query(documents), teacher.encode(documents)).mean() < 0.99  # the two routes are two models
    card = (left.run / "export" / "README.md").read_text()
    assert f"{left.results()['systems']['student']['ndcg@10']:.4f}" in card


def test_exported_graph_equals_the_student(left: Left, student: Any) -> None:
    queries = list(left.texts("queries.test.tsv").values())
    found = OnnxEncoder(left.run / "export" / "student").encode(queries)
    assert np.abs(found - student.encode(queries)).max() <= 1e-5
    assert (left.run / "export" / "student" / "onnx" / "model_qint8.onnx").is_file()
    latency = json.loads((left.run / "export" / "latency.json").read_text())
    assert list(latency["paths"]) == ["PyTorch", "ONNX fp32", "ONNX int8"]
    assert latency["queries"] == 30
    for path in latency["paths"].values():
        assert (left.run / "export" / path["file"]).is_file()
        assert 0 < path["query_latency_ms_p50"] <= path["query_latency_ms_p95"]
    assert latency["paths"]["ONNX fp32"]["cosine_min"] == pytest.approx(1, abs=1e-6)
    queries = list(left.texts("queries.dev.tsv").values())
    quantised = OnnxEncoder(left.run / "export" / "student", model="onnx/model_qint8.onnx").encode(queries)
    expected = cosines(quantised, student.encode(queries))
    assert latency["paths"]["ONNX int8"]["cosine_mean"] == pytest.approx(expected.mean(), abs=1e-4)
    assert latency["paths"]["ONNX int8"]["cosine_min"] == pytest.approx(expected.min(), abs=1e-4)


def test_card_shows_what_runs(left: Left, student: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of Python on the card, from the folder it lies in."""
    monkeypatch.chdir(left.run / "export")
    blocks = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    for block in blocks:
        exec(block, found)
    assert cosines(found["queries"], student.encode(["how do I ..."])).min() >= 0.99999
    assert float(found["scores"]) == pytest.approx(float(found["queries"][0] @ found["documents"][0]), abs=1e-5)
    assert len(blocks) == 2
    assert cosines(found["vector"], student.encode(["how do I ..."])).min() >= 0.99


def test_export_without_the_extra_and_again_with_it(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("distill.export.onnx_graph.find_spec", lambda name: None if name == "onnxscript" else name)
        assert distill("export", left.run, "--out", tmp_path / "out") == 0
    line = "ONNX left out: without onnxscript: install the extra `onnx` and export again"
    assert line in capsys.readouterr().out.splitlines()
    before = files(tmp_path / "out")
    assert not [name for name in before if "onnx" in name or name == "latency.json"]
    assert "router/modules.json" not in before and "student/modules.json" in before
    assert distill("export", left.run, "--out", tmp_path / "out") == 0
    now = files(tmp_path / "out")
    assert now.keys() - before.keys() == {"student/onnx/model.onnx", "student/onnx/model_qint8.onnx", "latency.json"}
    assert {name for name in before if before[name] != now[name]} == {"README.md"}


def test_export_without_the_texts(left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The graph is checked on the run's own queries; where they are gone, the rest is exported."""
    run = shutil.copytree(left.run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(left.source), str(tmp_path / "gone")))
    assert distill("export", run) == 0
    assert f"ONNX left out: {tmp_path / 'gone'}" in capsys.readouterr().out
    assert (run / "export" / "student" / "modules.json").is_file()
    assert not (run / "export" / "latency.json").exists()


def test_a_graph_that_differs_is_not_exported(left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The rest is, and what is printed says why."""
    monkeypatch.setattr("distill.export.onnx_graph.TOLERANCE", 1e-12)
    assert distill("export", left.run, "--out", tmp_path / "out") == 0
    assert "ONNX Runtime's vectors differ from PyTorch's" in "".join(capsys.readouterr())
    assert (tmp_path / "out" / "student" / "model.safetensors").exists() and not list((tmp_path / "out").rglob("*.onnx"))


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_export_with_an_index(
    left: Left, student: Any, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added to an export that was made without; checked with faiss alone, and by what the card says."""
    pytest.importorskip("faiss", reason="install the extra `cpu`")
    monkeypatch.setattr("distill.export.index.SECONDS", 0.01)
    out = Path(shutil.copytree(left.run / "export", tmp_path / "export"))
    before = files(out)
    assert distill("export", left.run, "--out", out, "--index", kind) == 0
    now = files(out)
    assert now.keys() - before.keys() == {"index/documents.faiss", "index/ids.txt", "index/index.json"}
    assert {name for name in before if before[name][0] != now[name][0]} == {"README.md"}
    assert (out / "index" / "ids.txt").read_text().splitlines() == list(left.texts("collection.tsv"))
    found = json.loads((out / "index" / "index.json").read_text())
    assert (found["kind"], found["documents"], found["queries"]) == (kind, 240, 30)
    assert found["recall@10"] >= (1.0 if kind == "flat" else 0.9)
    assert all(speed > 0 for way in ("exact", "index") for speed in found["queries_per_second"][way].values())
    assert f"{kind}, 240 documents: recall@10 {found['recall@10']:.4f} of exact search on 30 dev queries" in capsys.readouterr().out

    monkeypatch.chdir(out)
    block = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)[-1]
    shown: dict[str, Any] = {}
    exec(block, shown)
    expected = rankings(student.encode(["how do I ..."]), left.documents())[0, :10]
    ids = list(left.texts("collection.tsv"))
    assert len(set(shown["found"]) & {ids[row] for row in expected}) >= 9

    assert distill("export", left.run, "--out", out, "--index", kind) == 0  # again: nothing to do
    assert files(out) == now
    other = "ivf" if kind == "flat" else "flat"
    assert distill("export", left.run, "--out", out, "--index", other) == 2
    assert f"{out / 'index'}: made from other inputs (kind was {kind}" in capsys.readouterr().err
    assert files(out) == now


def test_export_with_an_index_at_once(left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="install the extra `cpu`")
    monkeypatch.setattr("distill.export.index.SECONDS", 0.01)
    monkeypatch.setattr("distill.export.onnx_graph.find_spec", lambda name: None)  # without ONNX the card shows PyTorch
    assert distill("export", left.run, "--out", tmp_path / "out", "--index", "flat") == 0
    monkeypatch.chdir(tmp_path / "out")
    shown: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)[-1], shown)
    assert len(shown["found"]) == 10


def test_export_with_an_index_needs_faiss(
    left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert distill("export", left.run, "--out", tmp_path / "out", "--index", "flat") == 2
    assert "faiss is not installed: pip install '.[cpu]' in a checkout of distill" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()  # said before the work, not after it


def test_an_export_broken_off_while_indexing_has_no_index(left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="install the extra `cpu`")
    out = Path(shutil.copytree(left.run / "export", tmp_path / "export"))
    before = files(out)
    monkeypatch.setattr("distill.export.index.SECONDS", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr("distill.export.index.write_ids", raise_interrupt)
        assert distill("export", left.run, "--out", out, "--index", "flat") == 130
    assert files(out) == before
    assert distill("export", left.run, "--out", out, "--index", "flat") == 0
    assert (out / "index" / "index.json").is_file()


def raise_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


def test_queries_alone_are_enough(left: Left, tmp_path: Path) -> None:
    source = Path(shutil.copytree(left.source, tmp_path / "texts"))
    for path in source.glob("qrels.*"):
        path.unlink()
    assert distill(*train_arguments(source, left.store, tmp_path / "run", "--trainer.max_epochs", 1)) == 0
    assert distill("evaluate", tmp_path / "run") == 0
    logged = {name for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) for name in line}
    assert {name for name in logged if name.startswith("dev/")} == {"dev/overlap@10", "dev/cosine", "dev/seconds"}
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["retention"] == {}
    assert set(results["systems"]["student"]) == {"params", *LATENCY}
    assert 0 < results["agreement"]["overlap@10"] < 1
    assert distill("export", tmp_path / "run") == 0


def test_scores_train_too_and_each_term_is_logged(left: Left, tmp_path: Path) -> None:
    losses = {
        "match": {"class_path": "QueryMatching", "init_args": {"weight": 0.5}},
        "kl": {"class_path": "ScoreDistillation", "init_args": {"weight": 2.0}},
        "label": {"class_path": "OneHot"},
    }
    more = ["--data.candidates", 4, "--trainer.max_epochs", 1]
    assert distill(*train_arguments(left.source, left.store, tmp_path / "run", *more, losses=json.dumps(losses))) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in steps] == list(range(12))
    for line in steps:
        assert line["train/loss"] == pytest.approx(0.5 * line["train/match"] + 2 * line["train/kl"] + line["train/label"], rel=1e-5)
    for name in ("match", "kl"):
        assert np.mean([line[f"train/{name}"] for line in steps[-4:]]) < np.mean([line[f"train/{name}"] for line in steps[:4]])


def test_extra_queries_are_used_and_leaks_dropped(left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*left.texts("queries.dev.tsv").values()][:2] + [*left.texts("queries.test.tsv").values()][:1]
    new = [f"how to find {word} bread" for word in ("a", "the", "old", "new", "red", "blue", "large", "small")]
    extra = tmp_path / "generated.tsv"
    extra.write_text("".join(f"g{i}\t{text}\n" for i, text in enumerate([*new, *(text.upper() + "  " for text in asked)])))
    store = Path(shutil.copytree(left.store, tmp_path / "store"))
    source = ["--source", "MsMarcoTsv", "--source.root", left.source]
    assert distill("encode", "--teacher", left.teacher, *source, "--precision", "fp32", "--queries", f"[{extra}]", "--out", store) == 0
    capsys.readouterr()
    more = ["--data.queries", f"[{extra}]", "--trainer.max_epochs", 1, "--data.batch_size", 20]
    assert distill(*train_arguments(left.source, store, tmp_path / "run", *more)) == 0
    printed = capsys.readouterr().out
    assert f"{extra}: 8 queries, 3 more left out, because another split has them too" in printed
    assert "trains on 200 queries an epoch, 10 steps" in printed
    assert printed.rstrip().endswith(f"next: distill evaluate {tmp_path / 'run'}")


def test_a_training_that_never_met_dev_keeps_its_last_step_and_says_so(teacher_folder, source_root, store_folder, tmp_path, capsys):
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", "--trainer.max_steps", 2)) == 0
    assert "the student of step 2, the last: dev was never evaluated" in capsys.readouterr().out
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "whole", "--trainer.max_epochs", 1)) == 0
    assert "the student of step 6, the best on dev by overlap@10" in capsys.readouterr().out
