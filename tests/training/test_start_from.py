"""A student's training begins from weights that exist; a checkpoint to go on from wins over them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import distill, furthest, train_arguments, weights
from families import make_cross
from test_document_towers import LOSSES, data_of, options, student_of

from distill.encoders.cross_folder import load_cross_encoder
from distill.encoders.students import StudentFromTeacher
from distill.encoders.towers import load_towers
from distill.losses import QueryMatching, ScoreDistillation
from distill.modules.cross_teacher import CrossTeacher
from distill.modules.dual_teacher import DualTeacher
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.teachers.ensemble import EnsembleSettings


@pytest.fixture(scope="module")
def two_towers(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path) -> Path:
    run = tmp_path_factory.mktemp("begun") / "separate"
    arguments = train_arguments(source_root, store_folder, run, *options("separate", "--trainer.max_epochs", 1), losses=LOSSES)
    assert distill(*arguments) == 0
    return run


def begun(data: Any, start: Path | str, layers: list[int] | None = None, **more: Any) -> StudentModule:
    module = StudentModule(StudentFromTeacher(layers or [0, 3]), {"q": QueryMatching()}, start_from=str(start), **more)
    module.prepare(data)
    return module


@pytest.mark.parametrize("start", ["", "student", "checkpoints/best.ckpt"])
def test_it_begins_from_a_run_a_folder_or_a_checkpoint(start, run_folder, two_towers, source_root, store_folder):
    data = data_of(source_root, store_folder)
    wanted = weights(run_folder / "checkpoints" / "best.ckpt")
    assert all(tensor.equal(wanted[name]) for name, tensor in begun(data, run_folder / start).state_dict().items())
    both, wanted = student_of(data, "separate", start_from=str(two_towers / start)), weights(two_towers / "checkpoints" / "best.ckpt")
    assert both.state_dict().keys() == wanted.keys()
    assert all(tensor.equal(wanted[name]) for name, tensor in both.state_dict().items())
    assert not both.encoder.word_table.weight.equal(both.own_documents.word_table.weight)


def test_a_run_folder_stands_for_its_model(run_folder, teacher_folder, tmp_path):
    """Wherever a folder is taken; a shrink job keeps its store in `teacher`, which is no model."""
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "teacher" / "documents").mkdir(parents=True)
    expected = load_towers(str(run_folder / "student")).fingerprint()
    assert load_towers(str(tmp_path / "run")).fingerprint() == expected
    shutil.rmtree(tmp_path / "run" / "student")
    with pytest.raises(BadInput, match="run: a run folder without a student or teacher: run distill train or teach to its end"):
        load_towers(str(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "teacher")
    shutil.copytree(teacher_folder, tmp_path / "run" / "teacher")  # as distill teach leaves it
    assert load_towers(str(tmp_path / "run")).fingerprint() == load_towers(str(teacher_folder)).fingerprint()


def on_the_hub(folder: Path, cache: Path, name: str) -> None:
    """Puts a folder where the hub's client keeps what it has downloaded under that name."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))


def test_all_begin_from_a_name_on_the_hub(run_folder, teacher_folder, source_root, store_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    make_cross("bert").save_pretrained(tmp_path / "cross")
    for name, folder in (("student", run_folder / "student"), ("dual", teacher_folder), ("cross", tmp_path / "cross")):
        on_the_hub(folder, tmp_path, f"acme/{name}")
    student = begun(data_of(source_root, store_folder), "acme/student")
    assert student.encoder.fingerprint() == load_towers(str(run_folder / "student")).fingerprint()
    for module, expected in (
        (DualTeacher("acme/dual"), load_towers(str(teacher_folder))),
        (CrossTeacher("acme/cross", "dual_pooling"), load_cross_encoder(str(tmp_path / "cross"))),
    ):
        module.prepare()
        assert module.fingerprint() == expected.fingerprint() and "acme/" in module.origin
    with pytest.raises(BadInput, match=r"acme/nothing: no such folder, and the hub did not give it"):
        DualTeacher("acme/nothing").prepare()


def test_one_encoder_is_where_two_towers_may_begin(run_folder, source_root, store_folder):
    both = student_of(data_of(source_root, store_folder), "separate", start_from=str(run_folder / "student"))
    wanted = load_towers(str(run_folder / "student")).query.state_dict()
    for tower in both.towers:
        assert all(tensor.equal(wanted[name]) for name, tensor in tower.state_dict().items())


def test_an_ensemble_begins_anew_from_a_run_without_one(run_folder, source_root, store_folder):
    data = data_of(source_root, store_folder, teachers={"again": str(store_folder)})
    losses = {"s": ScoreDistillation(teacher="ensemble")}
    ensemble = EnsembleSettings({"store": 0.05, "again": 1.0}, "learned")
    start = str(run_folder / "checkpoints" / "best.ckpt")
    module = student_of(data, "inherited", losses, ensemble=ensemble, start_from=start)
    wanted = weights(run_folder / "checkpoints" / "best.ckpt")
    assert all(tensor.equal(wanted[f"encoder.{name}"]) for name, tensor in module.encoder.state_dict().items())
    assert module.ensemble is not None and not torch.cat(list(module.ensemble.parameters())).any()


@pytest.mark.parametrize(
    ("start", "layers", "words"),
    [
        ("student", [0, 1, 3], r"it has no backbone.encoder.layer.2.\S+, which is \[32, 32\] here \(16 weights are missing\)"),
        ("checkpoints/best.ckpt", [3], r"it has encoder.backbone.encoder.layer.1.\S+ \[32, 32\], which is not here \(16 weights"),
        ("checkpoints/none.ckpt", [0, 3], "no such checkpoint"),
        ("nothing", [0, 3], "no such folder"),
    ],
)
def test_other_architectures_are_refused(start, layers, words, run_folder, source_root, store_folder):
    with pytest.raises(BadInput, match=words):
        begun(data_of(source_root, store_folder), run_folder / start, layers)


@pytest.mark.parametrize(("start", "words"), [("student", "document tower of its own"), ("checkpoints/last.ckpt", "it has own_documents.")])
def test_two_towers_are_not_squeezed_into_one(start, words, two_towers, source_root, store_folder):
    with pytest.raises(BadInput, match=words):
        begun(data_of(source_root, store_folder), two_towers / start)


def test_a_checkpoint_to_go_on_from_wins(run_folder, source_root, store_folder, tmp_path, capsys):
    """Also where what the run began from is gone."""
    start = Path(shutil.copytree(run_folder / "student", tmp_path / "start"))
    half = train_arguments(source_root, store_folder, tmp_path / "half", "--trainer.max_steps", 6, "--model.start_from", start)
    assert distill(*half) == 0
    assert f"begins from the weights of {start}; everything else as model says" in capsys.readouterr().out
    checkpoint = ["--ckpt_path", tmp_path / "half" / "checkpoints" / "last.ckpt"]
    shutil.rmtree(start)
    for name, more in (("plain", []), ("begun", ["--model.start_from", start])):
        capsys.readouterr()
        assert distill(*train_arguments(source_root, store_folder, tmp_path / name, *checkpoint, *more)) == 0
        assert (f"its weights win over model.start_from: {start}" in capsys.readouterr().out) == (name == "begun")
    assert furthest(*(tmp_path / name / "checkpoints" / "last.ckpt" for name in ("plain", "begun"))) == 0
    assert distill(*half) == 0 and "done before" in capsys.readouterr().out
