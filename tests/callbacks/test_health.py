"""Each fault is planted, and found within one evaluation interval; a clean run raises none."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill, in_process, on_ranks, train_arguments

from distill.callbacks.run_log import read_lines
from distill.files.fingerprints import file_fingerprint
from distill.texts.sources import MsMarcoTsv

TESTS = Path(__file__).parents[1]
MATCHING = {"match": {"class_path": "QueryMatching"}}


def alerts(run: Path) -> dict[str, dict[str, Any]]:
    path = run / "health.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else []
    return {line["fault"]: line for line in lines}


def trained(source: Path, store: Path, run: Path, *more: Any, losses: dict[str, Any] = MATCHING, code: int = 0) -> dict[str, Any]:
    arguments = train_arguments(source, store, run, "--trainer.max_epochs", 1, *more, losses=json.dumps(losses))
    assert distill(*arguments) == code
    return alerts(run)


def altered(store: Path, name: str, change: Any) -> Path:
    """A store whose vectors were changed, with checksums that fit."""
    shard, manifest = store / name / "00000.npy", store / name / "manifest.json"
    np.save(shard, change(np.load(shard)))
    said = json.loads(manifest.read_text())
    said["checksums"]["00000.npy"] = file_fingerprint(shard)
    manifest.write_text(json.dumps(said))
    return store


@pytest.fixture
def store(store_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store_folder, tmp_path / "store"))


def test_a_clean_run_is_silent(source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained(source_root, store_folder, tmp_path / "run", "--trainer.max_epochs", 2) == {}
    assert "warning" not in capsys.readouterr().out


def test_collapse(source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = {"point": {"class_path": "planted.ToOnePoint"}}
    found = trained(source_root, store_folder, tmp_path / "run", "--data.batch_size", 4, losses=losses)
    assert list(found) == ["collapse"] and found["collapse"]["step"] == 24  # the first evaluation
    assert "effective rank 1" in found["collapse"]["message"]
    assert capsys.readouterr().out.count("warning: the student's vectors collapse") == 1


def test_norms(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    losses = {"match": {"class_path": "QueryMatching", "init_args": {"distance": "cosine"}}}
    found = trained(source_root, store_folder, tmp_path / "run", "--model.student", "planted.Unnormalised", losses=losses)
    assert list(found) == ["norms"] and "Normalize" in found["norms"]["message"]


@pytest.mark.parametrize(("name", "weight", "why"), [("Detached", 1, "gradient"), ("Flat", 1, "gradient"), ("QueryMatching", 0, "weight")])
def test_a_term_without_gradient(source_root: Path, store_folder: Path, tmp_path: Path, name: str, weight: float, why: str) -> None:
    path = name if name == "QueryMatching" else f"planted.{name}"
    losses = MATCHING | {"idle": {"class_path": path, "init_args": {"weight": weight}}}
    found = trained(source_root, store_folder, tmp_path / "run", losses=losses)
    assert list(found) == ["gradient of idle"] and found["gradient of idle"]["step"] == 0
    assert f"model.losses.idle teaches the student nothing: its {why} is 0" in found["gradient of idle"]["message"]


def test_no_number(source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    found = trained(source_root, store_folder, run, losses=MATCHING | {"broken": {"class_path": "planted.BreaksAt"}}, code=2)
    assert list(found) == ["loss"]
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and str(run / "nan-step-3.json") in said and "learning_rate" in said
    kept = json.loads((run / "nan-step-3.json").read_text())
    texts = dict(line.split("\t") for line in (source_root / "queries.train.tsv").read_text().splitlines())
    assert kept["step"] == 3 and len(kept["queries"]) == len(kept["batch_before"]) == 16
    assert set(kept["queries"]) < set(texts) and not set(kept["queries"]) & set(kept["batch_before"])
    assert not (run / "student").exists()


def test_no_number_where_nothing_is_evaluated(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    losses = {"broken": {"class_path": "planted.BreaksAt", "init_args": {"call": 6}}}
    found = trained(source_root, store_folder, tmp_path / "run", "--trainer.limit_val_batches", 0, losses=losses, code=2)
    assert found["loss"]["step"] == 6 and not (tmp_path / "run" / "student").exists()


def test_weights_that_the_last_step_broke(
    source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss was a number at every step; what dev is embedded with is none."""
    found = trained(source_root, store_folder, tmp_path / "run", losses={"broken": {"class_path": "planted.NoSlopeAt"}}, code=2)
    assert list(found) == ["loss"] and "step 6: a vector of the student is no number" in found["loss"]["message"]
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(json.loads((tmp_path / "run" / "nan-step-6.json").read_text())["queries"]) == 16


def test_a_run_that_was_killed_warns_once(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """Before its first checkpoint, and after one that knows of the warning."""
    losses = json.dumps(MATCHING | {"idle": {"class_path": "planted.Flat"}})
    for step in (2, 7):
        kill = json.dumps([{"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_end", "step": step}}])
        arguments = train_arguments(source_root, store_folder, tmp_path / "run", "--checkpoint_every_n_steps", 4, losses=losses)
        found = in_process(*arguments, "--trainer.callbacks", kill)
        assert found.returncode == -signal.SIGKILL, found.stderr
    assert distill(*arguments) == 0
    assert [line["fault"] for line in read_lines(tmp_path / "run" / "health.jsonl")] == ["gradient of idle"]


@pytest.mark.slow
def test_two_ranks_stop_together(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """One of them sees a fault; both end, the first says so in one line, and what both had read is kept."""
    run = tmp_path / "run"
    broken = {"class_path": "planted.BreaksAt", "init_args": {"on_rank": 1}}
    losses = MATCHING | {"broken": broken, "idle": {"class_path": "planted.Flat"}}
    seen = {"class_path": "interruptions.Seen", "init_args": {"folder": str(tmp_path)}}
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8, "--trainer.callbacks", json.dumps([seen])]
    arguments = train_arguments(source_root, store_folder, run, *ranks, losses=json.dumps(losses))
    found = on_ranks(*arguments)  # returns when both are gone
    message = f"step 3: the loss is no number on another rank; the queries of that batch, and of the one before, are in {run}"
    assert found.returncode == 2 and found.stderr.startswith(f"distill train: {message}") and len(found.stderr.splitlines()) == 1
    assert [found.stdout.count(words) for words in ("warning:", "warning: model.losses.idle", f"warning: {message}")] == [2, 1, 1]
    assert list(alerts(run)) == ["gradient of idle", "loss"]

    texts = MsMarcoTsv(str(source_root)).queries("train")
    batches = [json.loads(line) for rank in (0, 1) for line in (tmp_path / f"2-{rank}.jsonl").read_text().splitlines()]
    kept = json.loads((run / "nan-step-3.json").read_text())
    for name, step in (("queries", 3), ("batch_before", 2)):
        assert kept[name] == [texts.ids[row] for _, at, rows in batches if at == step for row in rows] and len(kept[name]) == 16
    assert not (run / "student").exists()


def test_other_normalisation(source_root: Path, store: Path, tmp_path: Path) -> None:
    altered(store, "documents", lambda vectors: 3 * vectors)
    found = trained(source_root, store, tmp_path / "run")
    assert list(found) == ["teacher"] and "length 0.333 times" in found["teacher"]["message"]


def test_other_prompt(source_root: Path, store: Path, teacher_folder: Path, tmp_path: Path) -> None:
    prompts = ["--prompts", '{"document": "find the old letter near "}']
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    assert distill("encode", "--teacher", teacher_folder, *source, "--precision", "fp32", *prompts, "--out", tmp_path / "other") == 0
    altered(store, "documents", lambda _: np.load(tmp_path / "other" / "documents" / "00000.npy"))
    found = trained(source_root, store, tmp_path / "run")
    assert list(found) == ["teacher"] and "prompt, pooling or normalisation" in found["teacher"]["message"]


def test_a_teacher_that_changed_since(source_root: Path, store: Path, teacher_folder: Path, tmp_path: Path) -> None:
    """A student from its own backbone does not need the teacher; that it is another by now is still worth a line."""
    moved = Path(shutil.copytree(teacher_folder, tmp_path / "teacher"))
    for part in ("documents", "queries-train", "queries-dev", "queries-test"):
        manifest = store / part / "manifest.json"
        manifest.write_text(manifest.read_text().replace(str(teacher_folder), str(moved)))
    settings = moved / "config_sentence_transformers.json"
    settings.write_text(settings.read_text().replace('"query": ""', '"query": "find "'))
    student = ["--model.student", "StudentFromBackbone", "--model.student.name", teacher_folder]
    arguments = train_arguments(source_root, store, tmp_path / "run", "--trainer.max_epochs", 1)
    place = arguments.index("--model.student")
    assert distill(*arguments[:place], *student, *arguments[place + 4 :]) == 0
    assert "not the model that made the store" in alerts(tmp_path / "run")["teacher"]["message"]


@pytest.mark.parametrize("name", ["documents", "queries-train", "queries-dev"])
def test_misalignment(source_root: Path, store: Path, tmp_path: Path, name: str) -> None:
    altered(store, name, lambda vectors: np.roll(vectors, 1, axis=0))
    found = trained(source_root, store, tmp_path / "run")
    assert (
        list(found) == ["misalignment"]
        and f"{store / name}: of {12 if 'dev' in name else 16} sampled vectors" in found["misalignment"]["message"]
    )


def test_leakage(source_root: Path, store_folder: Path, teacher_folder: Path, tmp_path: Path) -> None:
    """A space of no width within a word is nothing to the tokenizer, and makes two words for those who compare texts."""
    source = Path(shutil.copytree(source_root, tmp_path / "texts"))
    first = (source / "queries.dev.tsv").read_text().splitlines()[0].split("\t")[1]
    with open(source / "queries.train.tsv", "a") as file:
        file.write(f"copy\t{first[0]}\u200b{first[1:]}\n")
    arguments = ["--source", "MsMarcoTsv", "--source.root", source, "--precision", "fp32", "--out", tmp_path / "store"]
    assert distill("encode", "--teacher", teacher_folder, *arguments) == 0
    found = trained(source, tmp_path / "store", tmp_path / "run")
    assert list(found) == ["leakage"]
    assert "8.3% of the dev queries" in found["leakage"]["message"] and "'dev0' is 'copy' for one" in found["leakage"]["message"]
