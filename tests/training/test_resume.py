"""A run or an encoding that was stopped and started again ends exactly as one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import distill, furthest, in_process, train_arguments, weights
from forks import run_python

TESTS = Path(__file__).parents[1]
STEPS = 12  # two epochs of 6
EVERY = ["--checkpoint_every_n_steps", 2]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert distill(*train_arguments(source_root, store_folder, folder, *EVERY)) == 0
    return folder


def stopped(arguments: list[Any], hook: str, step: int, name: str = "SIGKILL") -> subprocess.CompletedProcess[str]:
    """The verb in a process of its own that gets a signal at a step."""
    callback = {"class_path": "interruptions.SignalAt", "init_args": {"hook": hook, "step": step, "name": name}}
    return in_process(*arguments, "--trainer.callbacks", json.dumps([callback]))


def lines(run: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what differs from run to run."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "dev/seconds" and not name.startswith("system/")} for line in found]


def assert_same(run: Path, other: Path) -> None:
    for name in ("last", "best"):
        assert furthest(run / "checkpoints" / f"{name}.ckpt", other / "checkpoints" / f"{name}.ckpt") == 0
    assert (run / "student" / "model.safetensors").read_bytes() == (other / "student" / "model.safetensors").read_bytes()
    assert lines(run) == lines(other)


def test_log_of_an_uninterrupted_run(uninterrupted: Path) -> None:
    assert [line["step"] for line in lines(uninterrupted) if "train/loss" in line] == list(range(STEPS))
    assert [line["step"] for line in lines(uninterrupted) if "dev/cosine" in line] == [5, 11]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "step", "left_at"),
    [
        ("on_train_batch_end", 5, 4),  # in the middle of an epoch, between two checkpoints
        ("on_validation_start", 6, 4),  # after the epoch's last batch
        ("on_train_epoch_end", 6, 4),  # dev is measured, the best is saved, the epoch is not closed
        ("on_train_epoch_start", 6, 6),  # exactly between two epochs
    ],
)
def test_killed_training_goes_on(
    uninterrupted: Path, source_root: Path, store_folder: Path, tmp_path: Path, hook: str, step: int, left_at: int
) -> None:
    run = tmp_path / "run"
    arguments = train_arguments(source_root, store_folder, run, *EVERY)
    assert stopped(arguments, hook, step).returncode == -signal.SIGKILL
    assert not (run / "student").exists()
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == left_at
    (run / "checkpoints" / ".last.ckpt.1.tmp").write_bytes((run / "checkpoints" / "last.ckpt").read_bytes()[:1000])
    assert distill(*arguments) == 0
    assert_same(run, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "step", "name", "left_at"),
    [
        ("on_before_backward", 3, "SIGINT", 4),  # the batch is finished first
        ("on_train_batch_end", 5, "SIGINT", 5),
        ("on_before_backward", 5, "SIGINT", 6),  # the epoch's last batch: so is the epoch
        ("on_before_backward", 3, "SIGTERM", 4),
    ],
)
def test_interrupted_training_goes_on(
    uninterrupted: Path, source_root: Path, store_folder: Path, tmp_path: Path, hook: str, step: int, name: str, left_at: int
) -> None:
    run = tmp_path / "run"
    arguments = train_arguments(source_root, store_folder, run, "--checkpoint_every_n_steps", 100)
    found = stopped(arguments, hook, step, name)
    assert found.returncode == 128 + signal.Signals[name]
    assert "Traceback" not in found.stderr
    assert f"stopped at step {left_at}: the same command goes on" in found.stdout
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == left_at
    assert distill(*arguments) == 0
    assert_same(run, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "steps", "hook", "at", "left_at"),
    [
        (["--trainer.max_steps", 12], 12, "on_train_batch_end", 8, 6),  # its last checkpoint is that of the end of an epoch
        (["--trainer.max_steps", 15, "--trainer.max_epochs", 3], 15, "on_train_epoch_start", 12, 12),
        (["--trainer.max_steps", 10, "--trainer.limit_val_batches", 0], 10, "on_train_batch_end", 8, 6),
        (["--trainer.max_steps", 12, "--checkpoint_every_n_steps", 2], 12, "on_train_batch_end", 9, 8),
    ],
)
def test_a_training_of_so_many_steps_goes_on(
    source_root: Path, store_folder: Path, tmp_path: Path, more: list[Any], steps: int, hook: str, at: int, left_at: int
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert distill(*train_arguments(source_root, store_folder, whole, *more)) == 0
    assert [line["step"] for line in lines(whole) if "train/loss" in line] == list(range(steps))
    arguments = train_arguments(source_root, store_folder, run, *more)
    assert stopped(arguments, hook, at).returncode == -signal.SIGKILL
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == left_at
    assert distill(*arguments) == 0
    assert lines(run) == lines(whole)
    assert furthest(run / "checkpoints" / "last.ckpt", whole / "checkpoints" / "last.ckpt") == 0
    assert (run / "student" / "model.safetensors").read_bytes() == (whole / "student" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "hook", "at", "left_at", "steps"),
    [
        (["--trainer.val_check_interval", 2, "--checkpoint_every_n_steps", 2], "on_train_batch_end", 5, 3, 8),
        (
            ["--trainer.val_check_interval", 4, "--trainer.check_val_every_n_epoch", "null", "--trainer.max_epochs", 4, *EVERY],
            *("on_train_batch_end", 10, 9, 16),
        ),
        (["--trainer.max_epochs", 5], "on_train_epoch_start", 12, 12, 24),
        (["--trainer.max_epochs", 5], "on_train_end", 24, 24, 24),  # it has stopped, and the student is not saved
    ],
)
def test_what_stops_early_goes_on(
    source_root: Path, store_folder: Path, tmp_path: Path, more: list[Any], hook: str, at: int, left_at: int, steps: int
) -> None:
    """The counts of EarlyStopping are those of an uninterrupted run, which ends at the third evaluation no better than the first."""
    stop = {"class_path": "EarlyStopping", "init_args": {"monitor": "dev/cosine", "mode": "min", "patience": 3, "min_delta": 9.0}}
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert distill(*train_arguments(source_root, store_folder, whole, *more, "--trainer.callbacks", json.dumps([stop]))) == 0
    assert [line["step"] for line in lines(whole) if "train/loss" in line] == list(range(steps))
    arguments = train_arguments(source_root, store_folder, run, *more)
    kill = {"class_path": "interruptions.SignalAt", "init_args": {"hook": hook, "step": at, "name": "SIGKILL"}}
    assert in_process(*arguments, "--trainer.callbacks", json.dumps([stop, kill])).returncode == -signal.SIGKILL
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == left_at
    assert distill(*arguments, "--trainer.callbacks", json.dumps([stop])) == 0
    assert lines(run) == lines(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "callbacks", "hook", "name", "left_at"),
    [
        # two batches a step: both are finished before it stops
        (["--data.batch_size", 8, "--trainer.accumulate_grad_batches", 2], [], "on_before_backward", "SIGTERM", 4),
        # an average of the weights beside them
        (["--checkpoint_every_n_steps", 2], ["EMAWeightAveraging"], "on_train_batch_end", "SIGKILL", 2),
    ],
)
def test_what_is_between_two_steps_goes_on(
    source_root: Path, store_folder: Path, tmp_path: Path, more: list[Any], callbacks: list[str], hook: str, name: str, left_at: int
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    own = [{"class_path": callback} for callback in callbacks]
    stop = {"class_path": "interruptions.SignalAt", "init_args": {"hook": hook, "step": 3, "name": name}}
    assert distill(*train_arguments(source_root, store_folder, whole, *more, "--trainer.callbacks", json.dumps(own))) == 0
    arguments = train_arguments(source_root, store_folder, run, *more)
    assert in_process(*arguments, "--trainer.callbacks", json.dumps([*own, stop])).returncode in (-signal.SIGKILL, 128 + signal.SIGTERM)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == left_at
    assert distill(*arguments, "--trainer.callbacks", json.dumps(own)) == 0
    assert_same(run, whole)


def test_training_goes_on_from_another_runs_checkpoint(uninterrupted: Path, source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    one_epoch = train_arguments(source_root, store_folder, tmp_path / "one", "--trainer.max_steps", 6)
    assert distill(*one_epoch) == 0
    started = weights(tmp_path / "one" / "checkpoints" / "last.ckpt")
    checkpoint = ["--ckpt_path", tmp_path / "one" / "checkpoints" / "last.ckpt"]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "two", *checkpoint)) == 0
    ended = weights(tmp_path / "two" / "checkpoints" / "last.ckpt")
    assert any(not ended[name].equal(started[name]) for name in ended)
    steps = [line["step"] for line in lines(tmp_path / "two") if "train/loss" in line]
    assert steps == list(range(6, STEPS))


def test_more_checkpoints_are_kept_by_the_trainers_own_callback(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """The best two of four epochs, beside best and last; each is one to begin from."""
    kept = {"dirpath": str(tmp_path / "kept"), "save_top_k": 2, "monitor": "dev/cosine", "mode": "max"}
    callback = json.dumps([{"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": kept}])
    run = tmp_path / "run"
    assert distill(*train_arguments(source_root, store_folder, run, "--trainer.max_epochs", 4, "--trainer.callbacks", callback)) == 0
    measured = {line["step"] + 1: line["dev/cosine"] for line in lines(run) if "dev/cosine" in line}
    steps = [torch.load(path, weights_only=True)["global_step"] for path in (tmp_path / "kept").iterdir()]
    assert sorted(steps) == sorted(sorted(measured, key=measured.__getitem__)[-2:])
    assert {path.name for path in (run / "checkpoints").glob("*.ckpt")} == {"best.ckpt", "last.ckpt"}


def encode_arguments(teacher: Path, source: Path, out: Path) -> list[str]:
    texts = ["--source", "MsMarcoTsv", "--source.root", str(source)]
    return ["encode", "--teacher", str(teacher), *texts, "--precision", "fp32", "--out", str(out)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


@pytest.mark.slow
def test_killed_encoding_goes_on(teacher_folder: Path, source_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.vectors.store_writer.ROWS_PER_SHARD", 16)
    assert distill(*encode_arguments(teacher_folder, source_root, tmp_path / "whole")) == 0
    store = tmp_path / "store"
    arguments = encode_arguments(teacher_folder, source_root, store)
    command = [str(TESTS / "interruptions.py"), "4", "16", *arguments]  # after the plan and two shards
    assert run_python(command).returncode == -signal.SIGKILL

    assert sorted(contents(store)) == ["documents/00000.npy", "documents/00001.npy", "documents/plan.json"]
    (leftover,) = store.rglob(".00002.npy.*.tmp")
    leftover.write_bytes(leftover.read_bytes()[:100])
    written = {path: path.stat().st_mtime_ns for path in store.rglob("0000?.npy")}

    assert distill(*arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written  # not encoded again
    assert contents(store) == contents(tmp_path / "whole")
    assert len([name for name in contents(store) if name.startswith("documents/0")]) == 4  # 60 documents


def test_ranks_share_the_encoding(
    teacher_folder: Path, source_root: Path, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.vectors.store_writer.ROWS_PER_SHARD", 16)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("1", ["00001.npy", "00003.npy"]), ("0", ["00000.npy", "00001.npy", "00002.npy", "00003.npy"])):
        monkeypatch.setenv("RANK", rank)
        assert distill(*encode_arguments(teacher_folder, source_root, tmp_path / "store")) == 0
        assert sorted(path.name for path in (tmp_path / "store" / "documents").glob("0*.npy")) == expected
        assert (tmp_path / "store" / "documents" / "manifest.json").exists() == (rank == "0")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    assert distill(*encode_arguments(teacher_folder, source_root, tmp_path / "one")) == 0
    assert contents(tmp_path / "store") == contents(tmp_path / "one")
