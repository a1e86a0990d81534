"""Runs that cannot begin or go on: a checkpoint of something else, a config.yaml that is there, a late refusal, a signal."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import distill, teach_arguments, train_arguments
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from distill.modules.start import read_checkpoint
from distill.records import BadInput
from distill.training.run_folder import RunFolder
from distill.training.sweep import run_trial

SHORT = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2]


@pytest.fixture
def arguments(source_root: Path, store_folder: Path, tmp_path: Path) -> list[Any]:
    return train_arguments(source_root, store_folder, tmp_path / "run")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    assert distill(*arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and len(line) < 1000
    return line


def changed_checkpoint(run: Path, path: Path, **changes: Any) -> Path:
    """A copy of a run's last checkpoint; `weights` replaces some of its weights, None removes a key."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["state_dict"] |= changes.pop("weights", {})
    torch.save({key: value for key, value in checkpoint.items() if changes.get(key, value) is not None}, path)
    return path


# checkpoints to go on from


def test_a_checkpoint_of_other_layers_is_refused(run_folder, arguments, tmp_path, capsys):
    line = refusal(capsys, *arguments, "--model.student.layers", "[3]", "--ckpt_path", run_folder / "checkpoints" / "last.ckpt")
    assert "last.ckpt: it has encoder.backbone.encoder.layer.1." in line and "(16 weights are too many)" in line
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_shape_names_both(run_folder, arguments, tmp_path, capsys):
    name = "encoder.backbone.embeddings.word_embeddings.weight"
    path = changed_checkpoint(run_folder, tmp_path / "wide.ckpt", weights={name: torch.zeros(50, 64)})
    assert f"wide.ckpt: its {name} is [50, 64] there and [84, 32] here" in refusal(capsys, *arguments, "--ckpt_path", path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trainer.max_epochs", 2], "has done 12 steps, and this training has 12: nothing is left to learn"),
        (
            ["--trainer.max_epochs", 3, "--trainer.max_steps", 12],
            "has done 12 steps, and this training has 12",
        ),
    ],
)
def test_a_checkpoint_at_the_end_is_refused(run_folder, arguments, tmp_path, capsys, options, words):
    assert words in refusal(capsys, *arguments, *options, "--ckpt_path", run_folder / "checkpoints" / "last.ckpt")
    assert not (tmp_path / "run").exists()


def test_a_trainer_of_fewer_ranks_than_torchrun_started_is_refused(arguments, tmp_path, monkeypatch, capsys):
    """Without this each rank would train alone, and the second one be told that another process writes its folder."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    line = refusal(capsys, *arguments)
    assert "trainer.devices: 2 ranks were started, and this trainer has 1: set --trainer.devices" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["optimizer_states", "loops"])
def test_weights_alone_are_no_place_to_go_on_from(run_folder, arguments, tmp_path, capsys, key):
    path = changed_checkpoint(run_folder, tmp_path / "weights.ckpt", **{key: None})
    assert f"has weights alone, no {key} to go on with: name it in model.start_from" in refusal(capsys, *arguments, "--ckpt_path", path)


def test_averaged_weights_go_on_with_their_callback_alone(run_folder, arguments, tmp_path, capsys):
    checkpoint = torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**checkpoint, "averaging_state": {}, "global_step": 2}, tmp_path / "averaged.ckpt")
    line = refusal(capsys, *arguments, "--ckpt_path", tmp_path / "averaged.ckpt")
    assert "averaged.ckpt: its weights are averages, of a callback that averages them" in line


def test_a_checkpoint_of_slurms_signal_begins_no_new_run(arguments, tmp_path, capsys):
    assert distill(*arguments, *SHORT) == 0
    run = RunFolder(tmp_path / "run")
    run.last_checkpoint.rename(run.path / "hpc_ckpt_1.ckpt")
    shutil.rmtree(run.student)
    assert "hpc_ckpt_1.ckpt: left by Lightning at a signal of SLURM" in refusal(capsys, *arguments, *SHORT)


@pytest.mark.parametrize(("seed", "said"), [("-1", "-1"), ("4294967296", "4294967296"), ("true", "True")])
def test_a_seed_that_is_none(arguments, tmp_path, capsys, seed, said):
    assert f"seed: {said}: set a whole number from 0 to 4294967295" in refusal(capsys, *arguments, "--seed_everything", seed)
    assert not (tmp_path / "run").exists()


def test_a_teachers_checkpoint_is_no_students_nor_the_other_way(run_folder, source_root, teacher_folder, tmp_path, arguments, capsys):
    checkpoint = torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)
    taught = {f"towers.query.{name.removeprefix('encoder.')}": weight for name, weight in checkpoint["state_dict"].items()}
    torch.save({**checkpoint, "state_dict": taught}, tmp_path / "taught.ckpt")
    assert "it has no encoder." in refusal(capsys, *arguments, "--ckpt_path", tmp_path / "taught.ckpt")
    teach = teach_arguments(source_root, teacher_folder, tmp_path / "run", "--ckpt_path", run_folder / "checkpoints" / "last.ckpt")
    assert "it has no towers." in refusal(capsys, *teach)
    assert not (tmp_path / "run").exists()


# the run folder


def test_a_config_that_a_kill_left_is_written_anew(run_folder, store_folder, tmp_path, arguments):
    """Between config.yaml and run.json: the folder belongs to no run yet, and the next one has other inputs."""
    left = yaml.safe_load((run_folder / "config.yaml").read_text())
    left["data"]["store"] = str(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(left))
    assert distill(*arguments, *SHORT) == 0
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["store"] == str(store_folder)


@pytest.mark.parametrize("text", ["trainer:\n  max_epochs: 1 # my own\n", "", "[1, 2]", "a: [", "\x00"], ids=repr)
def test_a_config_of_the_users_is_not_overwritten(tmp_path, arguments, capsys, text):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "config.yaml"
    path.write_text(text)
    given = ["--config", path] if "own" in text else []
    assert f"{path}: the run's own would take its place" in refusal(capsys, *arguments, *given)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["config.yaml"] and path.read_text() == text


def test_a_run_goes_on_from_its_own_config(tmp_path, arguments):
    assert distill(*arguments, *SHORT) == 0
    run = RunFolder(tmp_path / "run")
    before = run.config.read_bytes()
    shutil.rmtree(run.student)
    assert distill("train", "--config", run.config) == 0  # which says `out` too
    assert run.finished and run.config.read_bytes() == before and run.settings()["out"] == str(run.path)


class Refuses(Callback):
    """Refuses the training when it has begun, as callbacks of Lightning do that lack something."""

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        raise MisconfigurationException("this callback needs\nsomething else")


def test_a_late_refusal_leaves_the_folder_free(tmp_path, arguments, capsys):
    callbacks = json.dumps([{"class_path": "test_refused_runs.Refuses"}])
    assert "trainer: this callback needs something else" in refusal(capsys, *arguments, "--trainer.callbacks", callbacks)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name != ".lock"]
    assert distill(*arguments, *SHORT, "--trainer.val_check_interval", 2) == 0


def test_what_a_tracker_and_a_warning_wrote_keeps_no_folder(tmp_path, arguments, capsys):
    callbacks = json.dumps([{"class_path": "test_refused_runs.WarnsAndRefuses"}])
    refusal(capsys, *arguments, "--trainer.callbacks", callbacks, "--tracking", "csv")
    assert not [path for path in (tmp_path / "run").iterdir() if path.name != ".lock"]


class WarnsAndRefuses(Refuses):
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        (Path(trainer.default_root_dir) / "health.jsonl").write_text("{}\n")
        super().on_fit_start(trainer, pl_module)


def test_a_refusal_after_a_step_keeps_the_run(tmp_path, arguments, capsys):
    callbacks = [{"class_path": "test_refused_runs.RefusesStep"}]
    every = ["--checkpoint_every_n_steps", 1, "--trainer.callbacks", json.dumps(callbacks)]
    assert "trainer: no more" in refusal(capsys, *arguments, *every)
    assert (tmp_path / "run" / "run.json").exists() and read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 1


class RefusesStep(Callback):
    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            raise MisconfigurationException("no more")


# what is refused late no more: the loaders of the trainer


def test_a_split_too_small_for_the_ranks_leaves_no_folder(store_folder, source_root, tmp_path, capsys):
    more = ["--trainer.devices", 13, "--trainer.strategy", "ddp"]
    line = refusal(capsys, *train_arguments(source_root, store_folder, tmp_path / "run", *more))
    assert "12 queries are too few for 13 ranks" in line and not (tmp_path / "run").exists()


# signals


@contextmanager
def closed_terminal() -> Iterator[None]:
    """Standard error is a terminal that is gone."""
    controller, terminal = pty.openpty()
    before = os.dup(2)
    os.dup2(terminal, 2)
    os.close(terminal)
    os.close(controller)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def test_the_end_of_the_terminal_saves_a_checkpoint(tmp_path, arguments, capsys):
    stop = [{"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_before_backward", "step": 1, "name": "SIGHUP"}}]
    short = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 3]
    with pytest.raises(SystemExit) as end, closed_terminal():
        with pytest.raises(OSError, match="Input/output error"):
            os.write(2, b"a bar")
        try:
            distill(*arguments, *short, "--trainer.callbacks", json.dumps(stop))
        finally:  # an error of printing would end the training before it is saved
            assert os.write(2, b"a bar")
    assert end.value.code == 128 + signal.SIGHUP and "stopped at step 2: the same command goes on" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    checkpoints = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"] and read_checkpoint(checkpoints / "last.ckpt")["global_step"] == 2
    (checkpoints / ".next.ckpt").write_bytes(b"of a process that was killed before it renamed it")
    assert distill(*arguments, *short) == 0 and sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_nohup_is_heeded(tmp_path, arguments):
    stop = [{"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_before_backward", "step": 1, "name": "SIGHUP"}}]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert distill(*arguments, *SHORT, "--trainer.callbacks", json.dumps(stop)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_sweep_hands_the_signal_on(tmp_path):
    """The trial sends it to the sweep, which sends it back, and waits for the trial's end."""
    trial = "import os, signal, sys, time; signal.signal(signal.SIGHUP, lambda *_: sys.exit(7))"
    trial += "; os.kill(os.getppid(), signal.SIGHUP); time.sleep(30)"
    with pytest.raises(SystemExit) as end:
        run_trial([sys.executable, "-c", trial])
    assert end.value.code == 128 + signal.SIGHUP
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_claim_that_is_refused_is_free(tmp_path):
    run = RunFolder(tmp_path / "run")
    config = {"seed_everything": 0, "model": {}, "data": {}, "trainer": {}, "out": "run", "ckpt_path": None}
    for _ in range(2):
        with pytest.raises(BadInput, match="no"), run.claim(config, "32-true", {}, 0):
            assert run.run_record.exists()
            raise BadInput("no")
        assert not run.run_record.exists() and not run.config.exists()
    with pytest.raises(BadInput, match="no"), run.claim(config, "32-true", {}, 0):
        (run.path / "nan-step-1.json").write_text("{}")
        raise BadInput("no")
    assert run.run_record.exists()


@pytest.mark.parametrize(
    ("changes", "message"), [({}, "another process is writing it"), ({"seed_everything": 1}, "made from other inputs")]
)
def test_a_run_that_another_process_begins_just_now(tmp_path, monkeypatch, changes, message):
    """Its record appears between the two looks of the second process: at the record, and at what else the folder holds."""
    config = {"seed_everything": 0, "model": {}, "data": {}, "trainer": {}, "out": "run", "ckpt_path": None}
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.path.mkdir()
    with ExitStack() as begun:
        list_files = Path.iterdir

        def begin(folder: Path) -> Iterator[Path]:
            monkeypatch.setattr(Path, "iterdir", list_files)
            begun.enter_context(first.claim(config, "32-true", {}, 0))
            return folder.iterdir()

        monkeypatch.setattr(Path, "iterdir", begin)
        with pytest.raises(BadInput, match=message), second.claim({**config, **changes}, "32-true", {}, 0):
            pass
        assert first.run_record.exists()
