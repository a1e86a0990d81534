"""Any student beside any teacher: folders, encoders, sentence-transformers models, functions, vectors; the same figures for all."""

from __future__ import annotations

import functools
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import distill, in_process

from distill.encoders.towers import load_towers
from distill.evaluation.costs import open_exported
from distill.evaluation.evaluate import evaluate, evaluate_run
from distill.evaluation.latency import measure_query_latency
from distill.evaluation.results import Results
from distill.evaluation.systems import open_system
from distill.metrics.retention import Interval
from distill.records import BadInput
from distill.texts.sources import Beir, MsMarcoTsv
from distill.training.run_folder import RunFolder
from distill.vectors.store import TeacherStore


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.evaluation.costs.measure_query_latency", functools.partial(measure_query_latency, rounds=3, warm_up=1))


@pytest.fixture(scope="module")
def expected(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What a run folder's own evaluation says."""
    return evaluate_run(run_folder, out=tmp_path_factory.mktemp("results") / "results.json")


def same(one: Results, other: Results, tolerance: float = 1e-9) -> bool:
    return all(
        abs(one.systems[name][metric] - other.systems[name][metric]) <= tolerance
        for name in ("teacher", "student")
        for metric in ("mrr@10", "ndcg@10", "recall@100")
    )


def test_a_store_and_a_folder(expected, run_folder, store_folder, source_root):
    results = evaluate(run_folder / "student", store_folder, source_root)
    assert same(results, expected)
    assert results.retention == expected.retention
    assert results.agreement == expected.agreement
    assert results.systems["student"]["params"] == expected.systems["student"]["params"]


@pytest.mark.parametrize("kind", ["encoder", "sentence-transformers", "function", "vectors", "model2vec-like"])
def test_students_of_every_kind(kind, expected, run_folder, store_folder, source_root):
    student = make_student(kind, run_folder, source_root)
    results = evaluate(student, TeacherStore(store_folder), MsMarcoTsv(str(source_root)))
    # sentence-transformers pads and sums in another order
    assert same(results, expected, 1e-9 if kind != "sentence-transformers" else 0.05)
    assert abs(results.agreement["cosine"] - expected.agreement["cosine"]) < 1e-5


def make_student(kind: str, run_folder: Path, source_root: Path):
    towers = load_towers(str(run_folder / "student"))
    if kind == "encoder":
        return towers.query
    if kind == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(run_folder / "student"), device="cpu")

    def embed(texts: list[str]) -> np.ndarray:
        return np.concatenate([towers.encode([text], "query").numpy() for text in texts])

    if kind == "function":
        return embed
    if kind == "vectors":
        return embed(list(MsMarcoTsv(str(source_root)).queries("test")))

    class Static:
        encode = staticmethod(embed)

    return Static()


def test_teachers_of_every_kind(expected, run_folder, teacher_folder, source_root):
    source, towers = MsMarcoTsv(str(source_root)), load_towers(str(teacher_folder))
    vectors = tuple(
        towers.encode(list(texts), role).numpy() for texts, role in ((source.queries("test"), "query"), (source.documents(), "document"))
    )
    for teacher in (str(teacher_folder), towers, vectors):
        results = evaluate(run_folder / "student", teacher, source)
        # a store keeps float16
        assert same(results, expected, 0.02)
        assert ("query_latency_ms_p50" in results.systems["teacher"]) == (teacher is not vectors)


def test_a_student_with_a_space_of_its_own(tmp_path, teacher_folder, source_root, store_folder):
    from conftest import make_teacher

    narrow = make_teacher(tmp_path / "narrow", width=16, seed=1)
    with pytest.raises(BadInput, match=r'16 wide, the documents\' 32, so they are not in one space: evaluate it with documents="student"'):
        evaluate(narrow, store_folder, source_root)
    results = evaluate(narrow, store_folder, source_root, documents="student")
    assert "cosine" not in results.agreement
    assert 0 < results.systems["student"]["recall@100"] <= 1
    own = evaluate(narrow, narrow, source_root)
    assert own.systems["teacher"]["ndcg@10"] == pytest.approx(results.systems["student"]["ndcg@10"], abs=1e-9)
    assert own.retention["ndcg@10"].value == pytest.approx(1)
    assert own.agreement["overlap@10"] == pytest.approx(1)


def test_baselines(expected, run_folder, store_folder, source_root, tmp_path):
    trec = tmp_path / "other.trec"
    trec.write_text("".join(f"test{i} Q0 d{i} 1 1.0 other\n" for i in range(12)))
    results = evaluate(
        run_folder / "student", store_folder, source_root, baselines={"other": str(trec), "same": str(run_folder / "student")}
    )
    assert results.systems["same"] == {name: results.systems["student"][name] for name in ("mrr@10", "ndcg@10", "recall@100")}
    assert set(results.systems["other"]) == {"mrr@10", "ndcg@10", "recall@100"}


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (np.zeros((3, 32)), None, "student: 3 vectors, but test has 12 queries"),
        (None, (np.zeros((12, 32)), np.zeros((7, 32))), "teacher: 7 vectors, but there are 60 documents"),
        (42, None, "42: no model of texts: give a folder"),
        (lambda texts: np.zeros((1, 32)), None, r"gives an array of shape \(1, 32\) for 12 texts"),
        ("nowhere/at-all", None, "nowhere/at-all: no such folder"),
    ],
)
def test_what_does_not_fit_is_refused(student, teacher, message, run_folder, store_folder, source_root):
    student = str(run_folder / "student") if student is None else student
    with pytest.raises(BadInput, match=message):
        evaluate(student, store_folder if teacher is None else teacher, source_root)


def test_texts_by_their_layout(tmp_path):
    with pytest.raises(BadInput, match=r"neither queries.jsonl \(BEIR\) nor queries.SPLIT.tsv \(MS MARCO\)"):
        evaluate(len, len, tmp_path)
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "river"}\n{"_id": "e", "text": "music"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "a river"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")

    def embed(texts: list[str]) -> np.ndarray:
        return np.array([[float("river" in text), float("music" in text)] for text in texts])

    results = evaluate(embed, embed, str(tmp_path))
    assert results.systems["student"]["mrr@10"] == 1
    assert results.values["dataset"] == f"{Beir(str(tmp_path)).name}/test"
    backwards = evaluate(lambda texts: embed(texts)[:, ::-1], embed, str(tmp_path))
    assert backwards.systems["student"]["mrr@10"] == 0.5  # the answer is second
    assert backwards.retention["mrr@10"].value == 0.5


def test_from_the_command_line(run_folder, store_folder, source_root, tmp_path, capsys):
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    models = ["--student", run_folder / "student", "--teacher", store_folder]
    out = tmp_path / "results.json"
    assert distill("evaluate", *models, *source, "--out", out, "--at_least", 0.05) == 0
    assert Results.load(out).main_retention.value >= 0.05
    assert distill("evaluate", *models, *source, "--at_least", 1.9) == 1
    assert "of the teacher's ndcg@10 is below --at_least 1.9" in capsys.readouterr().out
    assert distill("evaluate", *models) == 2
    assert "belong together" in capsys.readouterr().err
    assert distill("evaluate") == 2
    assert "name a run folder, or give --student, --teacher and --source" in capsys.readouterr().err


def test_exit_code_of_a_process(run_folder, store_folder, source_root):
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    ended = in_process("evaluate", "--student", run_folder / "student", "--teacher", store_folder, *source, "--at_least", "1.9")
    assert (ended.returncode, ended.stderr) == (1, "")


def test_latency_is_measured_on_the_dev_queries_of_a_run_or_on_those_at_hand(expected, run_folder, store_folder, source_root, tmp_path):
    on_dev = {"split": "dev", "queries": 12, "threads": 1, "paths": {}}
    assert expected.values["latency"] == on_dev
    other = evaluate_run(run_folder, source=MsMarcoTsv(str(source_root)), store=str(store_folder), out=tmp_path / "results.json")
    assert other.values["latency"] == on_dev | {"split": "test"}
    assert evaluate(run_folder / "student", store_folder, source_root).values["latency"] == on_dev | {"split": "test"}
    served = {"ONNX fp32": {"query_latency_ms_p50": 1.234}}
    shown = Results({**expected.values, "latency": on_dev | {"paths": served}})
    assert repr(shown) == f"{expected}\nthe student in ONNX Runtime: ONNX fp32 1.23 ms a query"


def test_an_export_of_another_student_is_not_timed(run_folder, tmp_path):
    run = Path(shutil.copytree(run_folder, tmp_path / "run"))
    (run / "export").mkdir()
    (run / "export" / "export.json").write_text('{"student": "another"}')
    assert open_exported(RunFolder(run), load_towers(str(run / "student")).fingerprint()) == {}


def test_a_string_is_one_text(run_folder):
    system = open_system(lambda texts: [[len(text), 1.0] for text in texts])
    assert system.encode("three", "query").tolist() == [5, 1]
    assert system.encode(["three"], "query").tolist() == [[5, 1]]
    assert open_system(str(run_folder / "student")).encode("old river", "query").shape == (32,)


def test_results_as_a_notebook_uses_them(expected):
    frame = expected.to_frame()
    assert list(frame.index) == ["teacher", "student"]
    assert frame.loc["student", "ndcg@10"] == expected.systems["student"]["ndcg@10"]
    assert "the student keeps" in repr(expected) and "nDCG@10" in repr(expected)
    page = expected._repr_html_()
    assert page.startswith("<table>") and "<th>student</th>" in page
    kept = expected.retention["ndcg@10"]
    assert isinstance(kept, Interval) and kept.low <= kept.value <= kept.high
    assert expected.main_retention == kept
    assert expected.as_dict()["queries"] == 12


def test_a_verdict_of_unjudged_queries_is_the_overlap():
    agreement = {"overlap@10": 0.7, "cosine": 0.9, "split": "holdout", "queries": 5}
    systems = {"teacher": {"query_latency_ms_p50": 8.0}, "student": {"query_latency_ms_p50": 2.0}}
    results = Results({"dataset": "x/holdout", "queries": 5, "systems": systems, "retention": {}, "agreement": agreement})
    assert (results.main_metric, results.main_retention.value) == ("overlap@10", 0.7)
    assert results.verdict == "finds 70.0% [70.0, 70.0] of the teacher's top 10 at 1/4 of the latency"  # an earlier release: no interval
    agreement["overlap@10_ci95"] = [0.66, 0.74]
    assert results.verdict.startswith("finds 70.0% [66.0, 74.0] of") and "overlap@10 0.700 [0.660, 0.740], cosine 0.900" in repr(results)
    slower = Results({**results.values, "systems": {"teacher": systems["student"], "student": systems["teacher"]}})
    assert slower.verdict.endswith("at 4 times the latency")


def test_damaged_weights_are_refused_and_not_read_by_another_library(run_folder, store_folder, source_root, tmp_path):
    from safetensors.torch import load_file, save_file

    damaged = tmp_path / "student"
    shutil.copytree(run_folder / "student", damaged)
    weights = load_file(damaged / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if "layer.1." not in name}, damaged / "model.safetensors")
    with pytest.raises(BadInput, match="its weights lack"):
        evaluate(damaged, store_folder, source_root)
    (damaged / "model.safetensors").write_bytes((run_folder / "student" / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"model\.safetensors: damaged .*: restore it"):
        evaluate(damaged, store_folder, source_root)


def test_a_model_of_modules_unknown_here_is_read_by_sentence_transformers(run_folder, store_folder, source_root, tmp_path, caplog):
    student = tmp_path / "student"
    shutil.copytree(run_folder / "student", student)
    pooling = student / "1_Pooling" / "config.json"
    config = json.loads(pooling.read_text())
    pooling.write_text(json.dumps({**config, "pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True, "include_prompt": False}))
    from sentence_transformers import SentenceTransformer

    logging.getLogger("distill").propagate = True
    results = evaluate(student, store_folder, source_root)
    assert "embedded by sentence-transformers" in caplog.text
    as_object = evaluate(SentenceTransformer(str(student), device="cpu"), store_folder, source_root)
    assert same(results, as_object)
    assert not same(results, evaluate(run_folder / "student", store_folder, source_root))  # which pools by the mean


def test_a_store_whose_bytes_changed_is_refused(run_folder, store_folder, source_root, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(store_folder, store)
    shard = store / "documents" / "00000.npy"
    np.save(shard, np.load(shard)[::-1])
    with pytest.raises(BadInput, match="its bytes changed since it was written"):
        evaluate(run_folder / "student", store, source_root)


def test_given_vectors_of_a_source_with_a_holdout(run_folder, teacher_folder, source_root):
    source, towers = MsMarcoTsv(str(source_root), holdout=10), load_towers(str(teacher_folder))
    queries, documents = towers.encode(list(source.queries("test")), "query"), towers.encode(list(source.documents()), "document")
    # tensors of any kind are as good as arrays
    results = evaluate(run_folder / "student", (queries.bfloat16(), documents.clone().requires_grad_()), source)
    assert (results.agreement["split"], results.agreement["queries"]) == ("test", 12)
    own = evaluate(run_folder / "student", towers, source)
    assert (own.agreement["split"], own.agreement["queries"]) == ("holdout", 10)
