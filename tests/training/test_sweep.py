"""A sweep file run here: its choices by hand, and three small trainings of which one cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import distill, train_arguments
from forks import run_python

from distill.files.locks import lock_folder
from distill.records import BadInput
from distill.training.sweep import ARGS, OUT, find_best_value, list_grid, make_trial_arguments, read_sweep, sample_choices

PLAN: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "dev/overlap@10", "goal": "maximize"},
    "command": ["distill", "train", "--tracking", "wandb", "--out", OUT, ARGS],
    "parameters": {"model.learning_rate": {"values": [0.1, 0.2]}, "data.batch_size": {"value": 4}},
}


def written(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(PLAN | changes))
    return path


def test_grid_by_hand() -> None:
    found = list(list_grid({"a": {"values": [1, 2]}, "b": {"value": 3}, "c": {"values": ["x", "y"]}}))
    assert found == [{"a": a, "b": 3, "c": c} for a in (1, 2) for c in ("x", "y")]


def test_draws_are_within_their_ends_and_the_same_again() -> None:
    parameters = {
        "rate": {"min": 1e-4, "max": 1e-1, "distribution": "log_uniform_values"},
        "layers": {"min": 1, "max": 3},
        "share": {"min": 0, "max": 1, "distribution": "uniform"},
        "kind": {"values": ["l2", "cosine"]},
    }
    found = list(sample_choices(parameters, 200, seed=1))
    assert found == list(sample_choices(parameters, 200, seed=1)) != list(sample_choices(parameters, 200, seed=2))
    assert {trial["layers"] for trial in found} == {1, 2, 3} and {trial["kind"] for trial in found} == {"l2", "cosine"}
    assert len({trial["share"] for trial in found}) == 200 and all(0 <= trial["share"] <= 1 for trial in found)
    below = sum(trial["rate"] < 10**-2.5 for trial in found)  # the middle of a log scale
    assert 70 < below < 130 and all(1e-4 <= trial["rate"] <= 1e-1 for trial in found)


def test_what_is_no_number_is_not_the_best(tmp_path: Path) -> None:
    lines = [{"step": 1, "dev/x": value} for value in (float("nan"), 2.0, 3.0, float("inf"))]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert find_best_value(tmp_path, "dev/x", "maximize") == 3.0
    assert find_best_value(tmp_path, "dev/x", "minimize") == 2.0


def test_two_sweeps_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = written(tmp_path / "plan.yaml")
    with lock_folder(tmp_path / "out"):
        assert distill("sweep", plan, "--out", tmp_path / "out") == 2
    assert "another process" in capsys.readouterr().err


def test_a_trial_stays_here() -> None:
    words = make_trial_arguments(PLAN["command"], {"model.learning_rate": 0.1, "name": "l2", "layers": [0, 1]}, Path("runs/one"))
    assert words == ["train", "--tracking", "wandb", "--out", "runs/one", "--model.learning_rate=0.1", "--name=l2", "--layers=[0, 1]"] + [
        "--tracking",
        "none",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bayes"}, "method: 'bayes' is none of grid, random"),
        ({"command": ["distill", "train", ARGS]}, "command: needs --out"),
        ({"parameters": {"x": {"min": 1, "max": 2}}}, "parameters.x: a grid has no end"),
        (
            {"parameters": {"x": {"min": 1, "max": 2, "distribution": "q_uniform"}}},
            "parameters.x: distribution: 'q_uniform' is none of uniform",
        ),
        ({"parameters": {"x": {"min": 1.0, "max": 2, "distribution": "int_uniform"}}}, "parameters.x: int_uniform draws whole numbers"),
        (
            {"parameters": {"x": {"values": [1, 2], "probabilities": [0.9, 0.1]}}},
            "parameters.x: probabilities: each value is drawn as often",
        ),
        ({"parameters": {"x": 3}}, "parameters.x: needs value, values, or min and max"),
        ({"metric": {"name": "dev/cosine"}}, "metric: needs a name and a goal"),
        ({"parameters": None}, "parameters: missing"),
    ],
)
def test_plans_that_cannot_be_run(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_sweep(written(tmp_path / "plan.yaml", **changes))


def test_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill("sweep", tmp_path / "none.yaml", "--out", tmp_path / "out") == 2
    assert f"{tmp_path / 'none.yaml'}: not a readable YAML file" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep(
    source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.training.sweep.run_trial", lambda command: run_python(command[1:]).returncode)
    train = [str(word) for word in train_arguments(source_root, store_folder, tmp_path, "--trainer.max_epochs", 1)]
    command = ["distill", *train[: train.index("--out")], "--trainer.max_epochs", "1", "--out", OUT, ARGS]
    rates = {"model.learning_rate": {"values": [0.005, -1.0]}}
    plan = written(tmp_path / "plan.yaml", command=command, parameters=rates)
    assert distill("sweep", plan, "--out", tmp_path / "out") == 0
    best, failed = [line.split("\t") for line in (tmp_path / "out" / "results.tsv").read_text().splitlines()[1:]]
    run = tmp_path / "out" / best[2]
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert best[:2] == [f"{max(line['dev/overlap@10'] for line in logged if 'dev/overlap@10' in line):.4f}", "0.005"]
    assert failed[:2] == ["failed", "-1.0"] and (run / "student").exists()
    before = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert distill("sweep", plan, "--out", tmp_path / "out") == 0  # trains nothing again
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    plan = written(tmp_path / "plan.yaml", command=command, parameters={"model.learning_rate": {"values": [-1.0]}})
    capsys.readouterr()
    assert distill("sweep", plan, "--out", tmp_path / "out") == 1
    assert "No training ended with a value of dev/overlap@10: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_leaves_its_trial_the_time_to_save(
    source_root: Path, store_folder: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    train = [str(word) for word in train_arguments(source_root, store_folder, tmp_path, "--trainer.max_epochs", 100_000)]
    command = ["distill", *train[: train.index("--out")], "--trainer.max_epochs", "100000", "--out", OUT, ARGS]
    plan = written(tmp_path / "plan.yaml", command=command, parameters={"model.learning_rate": {"values": [0.005, 0.001]}})
    words = [sys.executable, "-m", "distill", "sweep", str(plan), "--out", str(tmp_path / "out")]
    with subprocess.Popen(words, start_new_session=True) as sweep:
        end = time.monotonic() + 120
        while not list(tmp_path.glob("out/*/metrics.jsonl")) and time.monotonic() < end:
            time.sleep(0.2)
        (os.killpg if stop == signal.SIGINT else os.kill)(sweep.pid, stop)  # a terminal tells all of them, a scheduler the first
        assert sweep.wait(60) == 128 + stop
    [checkpoint] = tmp_path.glob("out/*/checkpoints/last.ckpt")  # and no second trial
    [log] = tmp_path.glob("out/*/metrics.jsonl")
    assert torch.load(checkpoint, weights_only=True)["global_step"] >= json.loads(log.read_text().splitlines()[-1])["step"]
