"""A run folder is read from every working directory, and found again after a move, its inputs too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from commands import distill, train_arguments

from distill.evaluation.evaluate import evaluate_run
from distill.records import BadInput
from distill.run import Run
from distill.training.run_folder import RunFolder, first_difference
from distill.training.run_paths import find_moved_paths, with_absolute_paths


def test_only_paths_that_exist_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("texts", "train", "cross", "more.tsv", "store"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    data = {
        "source": {"class_path": "distill.Beir", "init_args": {"root": "texts", "holdout": 0}},
        "store": "./store",
        "train": "train",
        "queries": {"more.tsv": 0.5},
        "teachers": {"cross": "cross", "gone": "gone"},
    }
    assert with_absolute_paths(data) == {
        "source": {"class_path": "distill.Beir", "init_args": {"root": f"{tmp_path}/texts", "holdout": 0}},
        "store": f"{tmp_path}/store",
        "train": "train",
        "queries": {f"{tmp_path}/more.tsv": 0.5},
        "teachers": {"cross": f"{tmp_path}/cross", "gone": "gone"},
    }
    assert with_absolute_paths({"queries": ["more.tsv"]}) == {"queries": [f"{tmp_path}/more.tsv"]}


def test_paths_follow_a_folder_that_moved(tmp_path: Path) -> None:
    now = tmp_path / "project" / "runs" / "b"
    (tmp_path / "project" / "data").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    before = "/old/project/runs/a"
    node = {
        "within": "/old/project/runs/a/teacher",
        "beside": "/old/project/runs/ab",  # gone: there is none in the new place either
        "project": "/old/project/data",
        "outside": str(tmp_path / "elsewhere"),
        "dev": "dev",
        "seed": 0,
    }
    assert find_moved_paths(node, before, now) == {
        **node,
        "within": f"{now}/teacher",
        "project": f"{tmp_path}/project/data",
    }
    assert find_moved_paths(node, str(now), now) is node


def test_a_relative_path_of_an_earlier_release_follows_too(tmp_path: Path) -> None:
    node = {"store": "runs/a/teacher", "root": "data"}
    assert find_moved_paths(node, "runs/a", tmp_path) == {"store": f"{tmp_path}/teacher", "root": "data"}


def test_one_path_written_in_two_ways_is_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert first_difference({"root": f"{tmp_path}/data"}, {"root": "data"}) is None
    assert first_difference({"root": f"{tmp_path}/data"}, {"root": "texts"}) == f"root was {tmp_path}/data, now texts"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path) -> Path:
    """A folder with texts, and a run whose store lies in it; trained with relative paths."""
    root = tmp_path_factory.mktemp("moving") / "project"
    shutil.copytree(source_root, root / "texts")
    shutil.copytree(store_folder, root / "runs" / "a" / "teacher")
    # a folder with a store alone is nobody's: as shrink does, the training comes first here
    (root / "runs" / "a" / "teacher").rename(root / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        arguments = train_arguments(Path("texts"), Path("store"), Path("runs/a"), "--trainer.max_epochs", 1)
        assert distill(*arguments) == 0
        assert distill(*arguments) == 0  # done before: the very same inputs
        shutil.move("store", "runs/a/teacher")
        config = RunFolder(Path("runs/a")).config
        config.write_text(config.read_text().replace(f"{root}/store", f"{root}/runs/a/teacher"))
    return root


def test_paths_in_the_run_folder_are_absolute(project: Path) -> None:
    config = yaml.safe_load((project / "runs" / "a" / "config.yaml").read_text())
    assert config["out"] == f"{project}/runs/a"
    assert config["data"]["source"]["init_args"]["root"] == f"{project}/texts"


def test_a_run_is_read_from_any_folder_and_after_a_move(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hits = Run(project / "runs" / "a").search("old river")
    copy = shutil.copytree(project / "runs" / "a", tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    assert Run("copy").search("old river") == hits  # the texts are where they were
    assert RunFolder(Path("copy")).data().store_folder == str(copy / "teacher")
    whole = shutil.copytree(project, tmp_path / "whole")
    project.rename(project.with_name("gone"))
    try:
        assert Run("whole/runs/a").search("old river") == hits  # texts and run moved together
        assert RunFolder(Path("whole/runs/a")).data().source.root == whole / "texts"
        with pytest.raises(BadInput, match=r"texts/collection\.tsv: no such file"):
            evaluate_run("copy")
    finally:
        project.with_name("gone").rename(project)
