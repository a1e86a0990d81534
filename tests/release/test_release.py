"""What the release before left still opens: stores, run folders, checkpoints, pairs and negatives of 0.1, in release-0.1.tar.xz.

They were made with relative paths on a small world: `model` encoded `texts` into `store`, `run` is a student of it, `taught` a dual-pooled
cross encoder that scored `pairs`; `imported` are vectors of nobody, `negatives` were mined.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import distill, train_arguments

from distill.encoders.cross_folder import load_cross_encoder
from distill.encoders.towers import load_maker, load_towers
from distill.evaluation.evaluate import evaluate_run
from distill.run import Run
from distill.teachers.mined import read_negatives
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import TeacherStore, VectorStore

METRICS = ("mrr@10", "ndcg@10", "recall@100")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(Path(__file__).parent / "release-0.1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def world(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to work in, in which the teacher is where its store says."""
    folder = tmp_path / "world"
    shutil.copytree(unpacked, folder)
    for manifest in (*folder.glob("store/*/manifest.json"), *folder.glob("store/*/plan.json")):
        content = json.loads(manifest.read_text())
        content["maker"]["name"] = str(folder / "model")
        manifest.write_text(json.dumps(content))
    monkeypatch.chdir(folder)
    return folder


def resume_arguments(world: Path, *more: object) -> list[object]:
    return train_arguments(Path("texts"), Path("store"), Path("run"), *more)


def test_stores_open(world):
    store = TeacherStore("store")
    for vectors in (store.documents, *(VectorStore(Path("store") / f"queries-{split}") for split in ("train", "dev", "test"))):
        vectors.verify()
    assert (len(store.documents), store.documents.width, store.maker.origin) == (60, 32, "model")
    imported = TeacherStore("imported")
    assert (imported.maker.name, imported.maker.origin) == ("somebody/model", "import")
    assert len(list(read_negatives("negatives"))) == 96


def test_the_teacher_is_still_the_one_that_made_them(world):
    store = TeacherStore("store")
    towers = load_maker(store.maker)  # refuses another fingerprint
    texts = MsMarcoTsv("texts").documents()
    again = towers.encode(texts.read(range(5)), "document").numpy()
    np.testing.assert_allclose(again, store.documents.take(np.arange(5)), atol=1e-3)
    cross = load_cross_encoder("taught/teacher")
    assert cross.fingerprint() == VectorStore(Path("pairs/pairs-train")).maker.fingerprint


def test_a_run_is_measured_as_before(world):
    before = Run("run").results
    results = evaluate_run("run", out="again/results.json")
    for system in ("teacher", "student"):
        assert {m: results.systems[system][m] for m in METRICS} == pytest.approx({m: before.systems[system][m] for m in METRICS}, abs=1e-9)
    assert {name: results.agreement[name] for name in before.agreement} == pytest.approx(before.agreement)
    assert results.values["provenance"]["student"] == before.values["provenance"]["student"]
    for metric, kept in before.retention.items():
        assert results.retention[metric].value == pytest.approx(kept.value)


def test_a_run_is_searched_exported_and_reported(world, capsys):
    hits = Run("run").search("what is the old river", 3)
    assert [round(hit.score, 3) for hit in hits] == sorted((round(hit.score, 3) for hit in hits), reverse=True)
    assert all(hit.text for hit in hits)
    assert distill("report", "run") == 0
    assert distill("export", "run") == 0
    assert load_towers("run/export/student").fingerprint() == load_towers("run/student").fingerprint()


def test_the_same_command_goes_on(world, capsys):
    assert distill(*resume_arguments(world)) == 0
    assert "run/student: done before" in capsys.readouterr().out
    student = load_towers("run/student").fingerprint()
    shutil.rmtree("run/student")
    assert distill(*resume_arguments(world)) == 0
    assert "continues from run/checkpoints/last.ckpt at step 12" in capsys.readouterr().out
    assert load_towers("run/student").fingerprint() == student


def test_other_inputs_are_still_refused(world, capsys):
    assert distill(*resume_arguments(world, "--data.batch_size", 8)) == 2
    assert "made from other inputs: data.batch_size was 16, now 8" in capsys.readouterr().err


def test_an_interrupted_run_is_trained_to_its_end(world):
    shutil.rmtree("run/student")
    shutil.copy("run/checkpoints/best.ckpt", "run/checkpoints/last.ckpt")
    before = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    assert before["global_step"] == 6
    assert distill(*resume_arguments(world)) == 0
    after = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert after["global_step"] == 12
    assert Run("run").student.width == 32


def test_a_checkpoint_begins_a_new_run(world, capsys):
    new = train_arguments(Path("texts"), Path("store"), Path("new"), "--model.start_from", "run/checkpoints/best.ckpt")
    assert distill(*new, "--trainer.max_epochs", 1) == 0
    assert "begins from the weights of run/checkpoints/best.ckpt" in capsys.readouterr().out


def test_an_unfinished_store_goes_on(world, capsys):
    whole = VectorStore(Path("store/documents")).take(np.arange(60))
    for name in ("manifest.json", "00000.npy"):
        (Path("store/documents") / name).unlink()
    encode = ["encode", "--teacher", "model", "--source", "MsMarcoTsv", "--source.root", "texts", "--out", "store", "--precision", "fp32"]
    assert distill(*encode) == 0
    assert "store/queries-dev: done before" in capsys.readouterr().out
    vectors = VectorStore(Path("store/documents")).take(np.arange(60))
    np.testing.assert_allclose(vectors, whole, atol=2e-4)  # in fp16, and the store was begun on another machine
