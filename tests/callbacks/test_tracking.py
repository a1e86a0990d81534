"""What each tracker is told is on disk afterwards: read back by its own reader."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill, train_arguments

from distill.callbacks.examples import PIXELS

LOSSES = json.dumps({"match": {"class_path": "QueryMatching"}, "idle": {"class_path": "QueryMatching", "init_args": {"weight": 0.0}}})
EVERY = ("train/match", "train/idle", "train/loss", "optim/learning_rate", "optim/gradient_norm")
EVERY += ("system/queries_per_second", "system/tokens_per_second", "system/memory_gb", "system/cpu_percent")
AFTER = ("dev/overlap@10", "dev/retention_ndcg@10", "dev/seconds", "theory/r_emb_q", "health/effective_rank")


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def trained_in_two_goes(source: Path, store: Path, run: Path, kind: str) -> None:
    """Stopped after 7 of 12 steps by a second Ctrl-C, where the last checkpoint is of step 4, and gone on with."""
    arguments = train_arguments(source, store, run, "--tracking", kind, "--checkpoint_every_n_steps", 4, losses=LOSSES)
    stop = {"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_end", "step": 7, "name": "SIGINT"}}
    assert distill(*arguments, "--trainer.callbacks", json.dumps([stop, stop])) == 130
    assert max(line["step"] for line in lines(run)) == 5  # steps 4 and 5 come again
    assert distill(*arguments) == 0


def test_every_number_is_logged_by_default(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", losses=LOSSES)) == 0
    found = lines(tmp_path / "run")
    steps = [line for line in found if "train/loss" in line]
    assert [line["step"] for line in steps] == list(range(12))
    for line in steps:
        assert all(np.isfinite(line[name]) for name in EVERY)
    assert [line["step"] for line in found if all(name in line for name in AFTER)] == [5, 11]
    falling = [0.005 * (12 - step) / 12 for step in range(12)]  # of each step, not of the next; a twentieth of 12 steps is no warm-up
    assert [line["optim/learning_rate"] for line in steps] == pytest.approx(falling, rel=1e-6)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert not names & {"wandb", "tensorboard", "metrics.csv"}  # nothing that nobody asked for


def test_csv_goes_on(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    trained_in_two_goes(source_root, store_folder, tmp_path / "run", "csv")
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(12))
    assert [float(row["dev/overlap@10"]) for row in rows if row["dev/overlap@10"]] == [
        line["dev/overlap@10"] for line in lines(tmp_path / "run") if "dev/overlap@10" in line
    ]


def test_tensorboard_goes_on(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="install the extra `track`")
    trained_in_two_goes(source_root, store_folder, tmp_path / "run", "tensorboard")
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    told = events.Tags()
    assert {*EVERY, *AFTER} <= set(told["scalars"])
    for name in ("train/loss", "dev/overlap@10", "optim/learning_rate"):
        curve = [(event.step, event.value) for event in events.Scalars(name)]  # every step once, in its order
        expected = [(line["step"], line[name]) for line in lines(tmp_path / "run") if name in line]
        assert [step for step, _ in curve] == [step for step, _ in expected] == (list(range(12)) if name != "dev/overlap@10" else [5, 11])
        assert [value for _, value in curve] == pytest.approx([value for _, value in expected])
    pictures = events.Images("similarities")
    assert [(one.step, one.width, one.height) for one in pictures] == [(step, 24 * PIXELS, 12 * PIXELS) for step in (5, 11)]

    def text(name: str) -> str:
        (found,) = (tag for tag in told["tensors"] if name in tag.replace("_", " ") and "text_summary" in tag)
        return events.Tensors(found)[-1].tensor_proto.string_val[0].decode()

    table = [row.split("|") for row in text("examples").splitlines()]
    dev = [line.split("\t")[1] for line in (source_root / "queries.dev.tsv").read_text().splitlines()]
    assert table[0] == ["query", "teacher", "student"] and [row[0] for row in table[2:]] == dev[:8]
    assert all(cell.count("d") == 3 for row in table[2:] for cell in row[1:])  # ids of three documents each
    assert "model.losses.idle teaches the student nothing" in text("alert/gradient of idle")
    hyperparameters = (tmp_path / "run" / "tensorboard" / "hparams.yaml").read_text()
    assert "learning_rate: 0.005" in hyperparameters and "loss_weights:" in hyperparameters


@pytest.mark.slow
def test_wandb_offline_goes_on(source_root: Path, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="install the extra `track`")
    from wandb_file import history, records, wait_for_the_end

    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    trained_in_two_goes(source_root, store_folder, run, "wandb-offline")
    parts = sorted((run / "wandb").glob("offline-run-*"))
    wait_for_the_end(parts)
    ids = {record.run.run_id for part in parts for record in records(part) if record.WhichOneof("record_type") == "run"}
    assert len(parts) == 2 and len(ids) == 1  # `wandb sync` joins them
    logged = [line for part in parts for line in history(part)]
    curve = {line["trainer/global_step"]: line["train/loss"] for line in logged if "train/loss" in line}
    assert sorted(curve) == list(range(12))
    expected = {line["step"]: line["train/loss"] for line in lines(run) if "train/loss" in line}
    assert curve == pytest.approx(expected)
    names = {name for line in logged for name in line}
    assert {*EVERY, *AFTER, "examples.path", "trainer/global_step"} <= names
    assert any(name.startswith("similarities") for name in names)
    kinds = [(record.WhichOneof("record_type"), record) for part in parts for record in records(part)]
    metric = [record.metric for kind, record in kinds if kind == "metric" and record.metric.step_metric]
    assert {one.step_metric for one in metric} == {"trainer/global_step"}
    config = {item.key: json.loads(item.value_json) for kind, record in kinds if kind == "config" for item in record.config.update}
    assert config["model"]["learning_rate"] == 0.005 and config["loss_weights"] == {"match": 1.0, "idle": 0.0}
    assert config["provenance"]["packages"]["torch"] and config["inputs"]["vectors"]["teacher"] and config["parameters"]["encoder"] > 0
    artifacts = {record.artifact.type: record.artifact for kind, record in kinds if kind == "artifact"}
    assert "model.safetensors" in [entry.path for entry in artifacts["model"].manifest.contents]
    assert json.loads(artifacts["dataset"].metadata)["teacher"] == config["inputs"]["vectors"]["teacher"]
    alerts = [record.alert.text for kind, record in kinds if kind == "alert"]
    assert len(alerts) == 1 and "model.losses.idle teaches the student nothing" in alerts[0]
    (table,) = list(parts[0].glob("files/media/table/*.json"))
    shown = json.loads(table.read_text())
    assert shown["columns"] == ["query", "teacher", "student"]
    dev = [line.split("\t")[1] for line in (source_root / "queries.dev.tsv").read_text().splitlines()]
    assert [row[0] for row in shown["data"]] == dev[:8] and all(cell.count("d") == 3 for row in shown["data"] for cell in row[1:])
    pictures = [path.read_bytes() for part in parts for path in part.glob("files/media/images/similarities*.png")]
    sizes = {struct.unpack(">II", picture[16:24]) for picture in pictures}  # where a PNG has them
    assert len(pictures) == 2 and sizes == {(24 * PIXELS, 12 * PIXELS)}
    assert [record.exit.exit_code for kind, record in kinds if kind == "exit"] == [1, 0]


def test_a_tracker_that_is_not_installed(
    source_root: Path, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distill.callbacks.tracking.find_spec", lambda name: None)
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", "--tracking", "wandb")) == 2
    assert "tracking: wandb is not installed: install the extra `track`" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
