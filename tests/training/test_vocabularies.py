"""Students of fewer tokens than their teacher."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import distill, furthest, train_arguments
from conftest import make_source
from test_document_towers import batches
from test_resume import EVERY, assert_same, stopped

from distill.data.datamodule import RetrievalData
from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher
from distill.losses import DocumentMatching
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.teachers.encode import encode
from distill.texts.sources import MsMarcoTsv

TOKENS = 64  # of 83; 57 must stay
PRUNED = ["--model.student.vocabulary", TOKENS, *EVERY]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("pruned") / "run"
    assert distill(*train_arguments(source_root, store_folder, folder, *PRUNED)) == 0
    return folder


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> tuple[Path, Path]:
    """Texts of other words, and their vectors."""
    folder = tmp_path_factory.mktemp("other")
    root = make_source(folder / "texts", seed=5)
    for path in [*root.glob("queries.*.tsv"), *root.glob("collection.tsv")]:
        path.write_text(path.read_text().replace("the", "xylem").replace("best", "quiz"))
    encode(str(teacher_folder), MsMarcoTsv(str(root)), str(folder / "store"), precision="fp32")
    return root, folder / "store"


def make_data(source: Path, store: Path, **settings: Any) -> RetrievalData:
    data = RetrievalData(MsMarcoTsv(str(source)), str(store), batch_size=8, **settings)
    data.setup("fit")
    return data


def make_pruned(data: RetrievalData, **settings: Any) -> StudentModule:
    module = StudentModule(StudentFromTeacher([0, 3], vocabulary=TOKENS), **settings)
    module.prepare(data)
    return module


def test_a_run_says_what_it_keeps(pruned, teacher_folder, capsys):
    record = json.loads((pruned / "run.json").read_text())["inputs"]["vocabulary"]
    student, teacher = load_encoder(str(pruned / "student")), load_encoder(str(teacher_folder))
    assert len(student.tokenizer) == len(student.word_table.weight) == TOKENS < len(teacher.tokenizer)
    assert record["student"].startswith(f"{TOKENS} of {len(teacher.tokenizer)} tokens kept, which are ")
    assert torch.load(pruned / "checkpoints" / "last.ckpt", weights_only=True)["vocabulary"] == record["tokens"]
    assert distill("evaluate", pruned, "--split", "dev") == 0


def test_a_run_without_it_records_nothing(run_folder):
    assert "vocabulary" not in json.loads((run_folder / "run.json").read_text())["inputs"]


@pytest.mark.slow
def test_killed_training_goes_on(pruned, source_root, store_folder, tmp_path):
    arguments = train_arguments(source_root, store_folder, tmp_path / "run", *PRUNED)
    assert stopped(arguments, "on_train_batch_end", 5).returncode == -signal.SIGKILL
    assert distill(*arguments) == 0
    assert_same(tmp_path / "run", pruned)
    assert (tmp_path / "run" / "student" / "tokenizer.json").read_bytes() == (pruned / "student" / "tokenizer.json").read_bytes()


def test_the_same_texts_give_the_same_student(pruned, source_root, store_folder, tmp_path):
    half = [*PRUNED, "--trainer.max_steps", 6]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "half", *half)) == 0
    checkpoint = ["--ckpt_path", tmp_path / "half" / "checkpoints" / "last.ckpt"]
    for name in ("one", "two"):
        assert distill(*train_arguments(source_root, store_folder, tmp_path / name, *PRUNED, *checkpoint)) == 0
    assert furthest(*(tmp_path / name / "checkpoints" / "last.ckpt" for name in ("one", "two"))) == 0


@pytest.mark.parametrize("start", ["student", "checkpoints/best.ckpt"])
def test_a_start_of_other_tokens_is_refused(start, pruned, run_folder, other_store, source_root, store_folder):
    """Of as many tokens, chosen from other texts, so that all shapes fit; and of all tokens."""
    words = r"a student of other tokens than model.student has, .*: make the student by StudentFromBackbone\('{}/student'\) without"
    for data, folder in ((make_data(*other_store), pruned), (make_data(source_root, store_folder), run_folder)):
        with pytest.raises(BadInput, match=f"{folder / start}: {words.format(folder)}"):
            make_pruned(data, start_from=str(folder / start))
    same = make_pruned(make_data(source_root, store_folder), start_from=str(pruned / start)).encoder
    assert same.fingerprint() == load_encoder(str(pruned / "student")).fingerprint()


def test_a_student_of_fewer_tokens_is_begun_from_as_the_refusal_says(pruned, other_store):
    module = StudentModule(StudentFromBackbone(str(pruned / "student")))
    module.prepare(make_data(*other_store))
    assert module.encoder.fingerprint() == load_encoder(str(pruned / "student")).fingerprint()


def test_a_checkpoint_of_other_tokens_is_not_gone_on_with(pruned, other_store, tmp_path, capsys):
    last = pruned / "checkpoints" / "last.ckpt"
    assert distill(*train_arguments(*other_store, tmp_path / "run", *PRUNED, "--ckpt_path", last)) == 2
    assert f"{last}: a student of other tokens than model.student has" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_with_another_size(pruned, source_root, store_folder, capsys):
    assert distill(*train_arguments(source_root, store_folder, pruned, *PRUNED, "--model.student.vocabulary", TOKENS + 1)) == 2
    assert "made from other inputs: model.student.init_args.vocabulary was 64, now 65" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "true", "all", "[3]"])
def test_the_command_line_refuses_what_is_no_size(value, source_root, store_folder, tmp_path, capsys):
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", "--model.student.vocabulary", value)) == 2
    assert "vocabulary" in capsys.readouterr().err


@pytest.mark.parametrize("documents", ["shared", "separate", "teacher"])
def test_each_tower_reads_documents_by_its_own_tokens(documents, source_root, store_folder):
    data = make_data(source_root, store_folder, candidates=2)
    module = make_pruned(data, losses={"documents": DocumentMatching()}, documents=documents)
    batch, tower = next(iter(batches(data, module))), module.document_tower
    expected = tower.encode(data.document_texts(batch.document_rows.flatten()), "document")
    torch.testing.assert_close(batch.documents.map(tower), expected, atol=1e-5, rtol=0)
    assert len(module.encoder.tokenizer) == TOKENS
    assert len(tower.tokenizer) == (83 if documents == "teacher" else TOKENS)


def test_a_source_of_vectors_alone_counts_its_queries(source_root, store_folder):
    data = make_data(source_root, store_folder)
    encoder = load_encoder(data.store.maker.name)
    whole = data.count_tokens(encoder)
    data.source.has_documents = lambda: False
    queries = data.count_tokens(encoder)
    assert queries.sum() == pytest.approx(1) and whole.sum() == pytest.approx(2)
    assert (queries <= whole).all() and not np.array_equal(queries, whole)
