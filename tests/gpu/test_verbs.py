"""Every verb that computes runs with a GPU: no operation mixes tensors of the host and of the GPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from collections_of_words import write_collection
from commands import distill, teach_arguments, train_arguments
from shrink_world import MINUTES, make_texts
from simulated_gpu import SimulatedGpu, describe
from students import NOTE_WAITS, ON_GPU, ONE_EPOCH, TrainStudent
from writers import make_writer


def refuse_waits(gpu: SimulatedGpu) -> None:
    """Fails where training steps made the host wait."""
    waits, steps = gpu.waits_of_steps()
    assert steps >= 2 and not waits, describe(waits)


def texts_of(source: Path) -> list[Any]:
    return ["--source", "MsMarcoTsv", "--source.root", source]


@pytest.fixture
def student_run(train_student: TrainStudent, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return shutil.copytree(train_student("cut").run, tmp_path / "run")


def test_a_student_is_evaluated_searched_and_exported(student_run: Path, gpu: SimulatedGpu, tmp_path: Path) -> None:
    assert distill("evaluate", student_run) == 0
    assert json.loads((student_run / "results.json").read_text())["agreement"]["cosine"] > 0
    assert distill("search", student_run, "what is the best river") == 0
    (tmp_path / "today.txt").write_text("\n".join(make_texts(30, 9, seed=3)))
    assert distill("drift", student_run, "--queries", tmp_path / "today.txt") == 0
    pytest.importorskip("faiss")
    assert distill("export", student_run, "--index", "flat", "--out", tmp_path / "export") == 0


def test_a_student_is_evaluated_on_a_suite(student_run: Path, gpu: SimulatedGpu, tmp_path: Path) -> None:
    write_collection(tmp_path / "suite" / "north", (3, 7), seed=0)
    assert distill("evaluate", student_run, "--suite", tmp_path / "suite") == 0


def test_a_student_with_a_document_tower(train_student: TrainStudent, request: pytest.FixtureRequest) -> None:
    run = train_student("separate documents").run
    request.getfixturevalue("gpu")
    assert distill("evaluate", run) == 0
    assert distill("search", run, "what is the best river") == 0


def test_a_dual_teacher(gpu: SimulatedGpu, source_root: Path, teacher_folder: Path, store_folder: Path, tmp_path: Path) -> None:
    steps = [*ON_GPU, *ONE_EPOCH, *NOTE_WAITS, "--model.recompute", "true"]
    assert distill(*teach_arguments(source_root, teacher_folder, tmp_path / "run", *steps)) == 0
    refuse_waits(gpu)
    arguments = ["--teacher", tmp_path / "run" / "teacher", *texts_of(source_root)]
    assert distill("encode", *arguments, "--out", tmp_path / "store") == 0
    assert distill("rerank", *arguments, "--first_stage", store_folder, "--out", tmp_path / "ranked") == 0
    assert distill("mine", "--store", tmp_path / "store", *texts_of(source_root), "--out", tmp_path / "mined") == 0


def test_a_cross_teacher_and_its_student(
    gpu: SimulatedGpu, source_root: Path, teacher_folder: Path, store_folder: Path, tmp_path: Path
) -> None:
    steps = [*ON_GPU, *ONE_EPOCH, *NOTE_WAITS, "--data.first_stage", store_folder]
    assert distill(*teach_arguments(source_root, teacher_folder, tmp_path / "run", *steps, model="CrossTeacher")) == 0
    refuse_waits(gpu)
    arguments = ["--teacher", tmp_path / "run" / "teacher", *texts_of(source_root)]
    assert distill("rerank", *arguments, "--first_stage", store_folder, "--out", tmp_path / "ranked") == 0
    assert distill("encode", *arguments, "--candidates", store_folder, "--splits", "[train]", "--out", tmp_path / "pairs") == 0
    losses = {"s": {"class_path": "ScoreDistillation", "init_args": {"teacher": "ensemble"}}, "q": {"class_path": "QueryMatching"}}
    teachers = ["--data.teachers", json.dumps({"cross": str(tmp_path / "pairs")}), "--data.candidates", 4]
    ensemble = ["--model.ensemble.temperatures", '{"store": 0.05, "cross": 1.0}', "--model.ensemble.weights", "margin"]
    steps = [*ON_GPU, *ONE_EPOCH, *NOTE_WAITS, *teachers, *ensemble]
    gpu.waits_after_steps.clear()
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "student", *steps, losses=json.dumps(losses))) == 0
    refuse_waits(gpu)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_writer(tmp_path_factory.mktemp("writer") / "bart", "bart")


def test_a_query_generator(
    gpu: SimulatedGpu, source_root: Path, store_folder: Path, writer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["--data.source", "MsMarcoTsv", "--data.source.root", source_root, "--data.batch_size", 16]
    steps = [*ON_GPU, *ONE_EPOCH, *NOTE_WAITS, "--trainer.limit_train_batches", 5]
    assert distill("teach", "--task", "query-generation", "--model.start_from", writer, *texts, *steps, "--out", tmp_path / "run") == 0
    refuse_waits(gpu)
    generate = ["generate", "--generator", "Seq2Seq", "--generator.model", tmp_path / "run" / "teacher", *texts_of(source_root)]
    generate += ["--count", 20, "--generator.longest_query", 8]
    filtered = [*generate, "--store", store_folder, "--filters.round_trip", 50, "--out", tmp_path / "documents"]
    noisy = [*generate, "--generator.of", "queries", "--generator.noise", 0.1, "--out", tmp_path / "queries"]
    for arguments in (filtered, noisy):  # queries of a model that learnt for five steps may all be of no use
        assert distill(*arguments) == 0 or "nothing is left of" in capsys.readouterr().err


def test_a_whole_job(gpu: SimulatedGpu, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queries.txt").write_text("\n".join(make_texts(200, 9, seed=1)))
    (tmp_path / "documents.txt").write_text("\n".join(make_texts(20, 25, seed=2)))
    arguments = ["--teacher", teacher_folder, "--queries", tmp_path / "queries.txt", "--documents", tmp_path / "documents.txt"]
    for name, value in {"MOST_TEXTS": 200, "STEPS_TIMED": 4, "STEPS_OF_WARM_UP": 2}.items():
        monkeypatch.setattr(f"distill.shrinking.budget.{name}", value)
    assert distill("shrink", *arguments, "--minutes", MINUTES, "--out", tmp_path / "job") == 0
