"""Every option and callback of Lightning's trainer works, is refused before a folder is written, or is said to change nothing."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning.callbacks as lightning
import torch
from commands import distill as verb
from commands import train_arguments
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.plugins.io import AsyncCheckpointIO
from pytorch_lightning.plugins.precision import DoublePrecision
from safetensors.torch import load_file

import distill
from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromTeacher
from distill.files.progress import log
from distill.losses import DocumentMatching
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.run import Run

SHORT = {"max_epochs": 1, "accelerator": "cpu", "precision": "32-true", "log_every_n_steps": 1}

# what each option of the trainer does here: `works` beside its tests below or elsewhere, else `refused` or `idle` for some of its values
OPTIONS = {
    "accelerator": "works",  # tests/training/test_launch.py; mps and tpu are refused
    "strategy": "works",  # ddp: test_two_ranks.py; fsdp and deepspeed are refused by Lightning without a GPU or their package
    "devices": "works",  # test_two_ranks.py
    "num_nodes": "works",  # test_torchrun.py
    "precision": "works",
    "logger": "idle",
    "callbacks": "works",
    "fast_dev_run": "refused",
    "max_epochs": "works",
    "min_epochs": "works",
    "max_steps": "works",
    "min_steps": "works",
    "max_time": "works",
    "limit_train_batches": "works",
    "limit_val_batches": "works",
    "limit_test_batches": "idle",
    "limit_predict_batches": "idle",
    "overfit_batches": "refused",
    "val_check_interval": "works",
    "check_val_every_n_epoch": "works",
    "num_sanity_val_steps": "works",
    "log_every_n_steps": "works",
    "enable_checkpointing": "refused",
    "enable_progress_bar": "works",  # tests/callbacks/test_progress.py
    "enable_model_summary": "works",
    "accumulate_grad_batches": "works",
    "gradient_clip_val": "works",
    "gradient_clip_algorithm": "works",
    "deterministic": "works",
    "benchmark": "works",
    "inference_mode": "works",
    "use_distributed_sampler": "idle",
    "profiler": "works",
    "detect_anomaly": "works",
    "barebones": "refused",
    "plugins": "refused",  # those for precision and checkpoints; those for clusters work
    "sync_batchnorm": "idle",
    "reload_dataloaders_every_n_epochs": "idle",
    "default_root_dir": "idle",
    "enable_autolog_hparams": "idle",
    "model_registry": "idle",
}

CALLBACKS = {
    "BackboneFinetuning": "refused",
    "BaseFinetuning": "works",  # for a class derived from it
    "BasePredictionWriter": "idle",  # it is only called by Trainer.predict
    "BatchSizeFinder": "refused",
    "DeviceStatsMonitor": "works",
    "EMAWeightAveraging": "works",
    "EarlyStopping": "works",
    "GradientAccumulationScheduler": "refused",
    "LambdaCallback": "works",
    "LearningRateFinder": "refused",
    "LearningRateMonitor": "works",  # test_what_belongs_together.py
    "ModelCheckpoint": "works",
    "ModelPruning": "refused",
    "ModelSummary": "works",
    "OnExceptionCheckpoint": "works",
    "RichModelSummary": "works",
    "RichProgressBar": "works",  # it is the base of ours
    "SpikeDetection": "works",
    "StochasticWeightAveraging": "refused",
    "ThroughputMonitor": "works",
    "TQDMProgressBar": "works",
    "Timer": "works",
    "WeightAveraging": "works",
}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"fast_dev_run": 3}, "trainer.fast_dev_run: 3: leaves no model"),
    ({"overfit_batches": 1}, "trainer.overfit_batches: 1: every epoch draws other batches"),
    ({"overfit_batches": 0.5}, "trainer.overfit_batches: 0.5"),
    ({"barebones": True}, "trainer.barebones"),
    ({"enable_checkpointing": False}, "trainer.enable_checkpointing: false"),
    ({"max_epochs": 0}, "trainer.max_epochs: 0: trains no step"),
    ({"max_epochs": -1}, "a schedule needs an end"),
    ({"max_steps": 0}, "trainer.max_steps: 0: trains no step"),
    ({"max_time": {"seconds": 0}}, "trainer.max_time: trains no step"),
    ({"limit_train_batches": 0}, "trainer.limit_train_batches: 0: trains no step"),
    ({"limit_train_batches": 0.01}, "trainer.limit_train_batches: 0.01: of 2 batches that is none: .*a share from 0.5"),
    ({"limit_val_batches": 0.01}, "trainer.limit_val_batches: 0.01: of 1 batches that is none"),
    ({"val_check_interval": 0}, "trainer.val_check_interval: 0"),
    ({"val_check_interval": 1.5}, "trainer: .*val_check_interval"),
    ({"val_check_interval": 1000}, "trainer.val_check_interval: 1000: an epoch has 2 batches"),
    ({"val_check_interval": 2, "limit_train_batches": 1}, "an epoch has 1 batches"),
    ({"check_val_every_n_epoch": 0}, "trainer.check_val_every_n_epoch: 0"),
    ({"log_every_n_steps": -1}, "trainer.log_every_n_steps: -1"),
    ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches: 0"),
    ({"gradient_clip_val": -1.0}, "trainer.gradient_clip_val: -1.0"),
    ({"gradient_clip_algorithm": "none", "gradient_clip_val": 1.0}, "trainer: .*gradient_clip_algorithm"),
    ({"precision": "64-true"}, "weights stay in fp32"),
    ({"precision": "transformer-engine"}, "trainer: .*transformer_engine"),
    ({"accelerator": "tpu"}, "trainer.accelerator: tpu"),
    ({"accelerator": "cuda"}, "trainer.accelerator: cuda: PyTorch finds no NVIDIA GPU here: set cpu"),
    ({"devices": 0}, "trainer: .*devices"),
    ({"strategy": "deepspeed"}, "trainer: .*DeepSpeed"),
    ({"strategy": "nothing"}, "trainer: .*invalid strategy name"),
    ({"profiler": "nothing"}, "trainer: .*profiler"),
    ({"plugins": [AsyncCheckpointIO()]}, "trainer.plugins: AsyncCheckpointIO"),
    ({"plugins": DoublePrecision()}, "trainer.plugins: DoublePrecision: set trainer.precision"),
    ({"callbacks": lightning.StochasticWeightAveraging(0.005)}, "StochasticWeightAveraging: .*use .*EMAWeightAveraging"),
    ({"callbacks": [lightning.LearningRateFinder()]}, "LearningRateFinder"),
    ({"callbacks": [lightning.BatchSizeFinder()]}, "BatchSizeFinder"),
    ({"callbacks": [lightning.GradientAccumulationScheduler({0: 2})]}, "GradientAccumulationScheduler: .*accumulate_grad_batches"),
    ({"callbacks": [lightning.ModelPruning("l1_unstructured")]}, "ModelPruning"),
    ({"callbacks": [lightning.BackboneFinetuning()]}, "BackboneFinetuning"),
    ({"callbacks": [lightning.Timer("00:00:00:00")]}, "trainer.max_time"),
    ({"callbacks": [lightning.EarlyStopping("val_loss")]}, "'val_loss' is not logged: there are dev/mrr@10, .*train/loss"),
    ({"callbacks": [lightning.EarlyStopping("ndcg@10", strict=False)]}, "did you mean dev/ndcg@10"),
    ({"callbacks": [lightning.EarlyStopping("dev/ndcg@10")], "limit_val_batches": 0}, "dev is not evaluated: there are train/loss"),
    ({"callbacks": [lightning.ModelCheckpoint(monitor="dev/ndcg")]}, "ModelCheckpoint: monitor: 'dev/ndcg' .*did you mean dev/ndcg@10"),
    ({"callbacks": [lightning.ModelCheckpoint(monitor="dev/cosine")], "check_val_every_n_epoch": 2}, "dev is not evaluated"),
]  # fmt: skip


@pytest.fixture
def train(source_root: Path, store_folder: Path, tmp_path: Path) -> Any:
    """A training of two steps on the small world, into `tmp_path / name`."""

    def run(name: str = "run", **options: Any) -> Run:
        data = distill.RetrievalData(distill.MsMarcoTsv(str(source_root)), str(store_folder), batch_size=48)
        return distill.train(StudentModule(StudentFromTeacher([3])), data, tmp_path / name, **{**SHORT, **options})

    return run


def test_the_tables_are_complete() -> None:
    assert set(OPTIONS) == set(inspect.signature(Trainer).parameters)
    assert set(CALLBACKS) == set(lightning.__all__) - {"Callback", "Checkpoint", "ProgressBar"}


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[words[:50] for _, words in REFUSED])
def test_refused_before_the_folder_is_taken(train: Any, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        train(**options)
    assert not (tmp_path / "run").exists()


def test_what_changes_nothing_is_said(train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level("INFO", logger="distill")
    idle = {
        "logger": True,
        "limit_test_batches": 3,
        "limit_predict_batches": 0.5,
        "use_distributed_sampler": True,
        "sync_batchnorm": True,
        "reload_dataloaders_every_n_epochs": 1,
        "default_root_dir": str(tmp_path / "elsewhere"),
        "enable_autolog_hparams": False,
        "model_registry": "mine",
    }
    assert set(idle) == {name for name, outcome in OPTIONS.items() if outcome == "idle"}
    train("plain", max_epochs=2)
    assert "changes nothing" not in caplog.text
    train("idle", max_epochs=2, **idle, gradient_clip_algorithm="value")
    for name in [*idle, "gradient_clip_algorithm"]:
        assert f"trainer.{name}" in caplog.text
    students = [load_file(tmp_path / name / "student" / "model.safetensors") for name in ("plain", "idle")]
    assert all(torch.equal(students[0][name], students[1][name]) for name in students[0])
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (1, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1, "gradient_clip_algorithm": "value", "num_sanity_val_steps": 1}),
        (2, {"deterministic": "warn", "benchmark": False, "inference_mode": False, "profiler": "simple"}),
        (1, {"val_check_interval": 1, "limit_train_batches": 1, "detect_anomaly": True, "precision": "bf16-mixed"}),
        (4, {"val_check_interval": 3, "check_val_every_n_epoch": None, "max_epochs": 2, "max_time": "00:01:00:00"}),
        (1, {"val_check_interval": "00:00:01:00", "max_steps": 1, "limit_val_batches": 1, "enable_model_summary": True}),
    ],
    ids=str,
)
def test_these_work(train: Any, steps: int, options: dict[str, Any]) -> None:
    run = train(**options)
    assert run.folder.finished and run.history["train/loss"].steps == list(range(steps))


@pytest.mark.parametrize(
    ("steps", "options"),
    [(4, {}), (8, {"min_epochs": 4}), (7, {"min_steps": 7}), (10, {"min_steps": 99})],
    ids=str,
)
def test_what_would_stop_early_trains_on(train: Any, steps: int, options: dict[str, Any]) -> None:
    """Of five epochs of two steps the second is no better than the first."""
    stop = lightning.EarlyStopping("dev/cosine", mode="max", patience=1, min_delta=9.0)
    assert train(callbacks=[stop], max_epochs=5, **options).history["train/loss"].steps == list(range(steps))


def test_the_time_ends_a_training(train: Any) -> None:
    run = train(max_epochs=100_000, max_time={"seconds": 2})
    assert run.folder.finished and 0 < len(run.history["train/loss"].steps) < 200_000


def test_these_callbacks_work(train: Any, teacher_folder: Path, tmp_path: Path) -> None:
    heard: list[int] = []
    callbacks = [
        lightning.DeviceStatsMonitor(),
        lightning.EarlyStopping("train/query_matching"),
        lightning.LambdaCallback(on_train_end=lambda trainer, module: heard.append(trainer.global_step)),
        lightning.ModelCheckpoint(monitor="dev/overlap@10", mode="max", save_last=True),
        lightning.OnExceptionCheckpoint(tmp_path / "exception"),
        lightning.Timer("00:01:00:00"),
        lightning.ThroughputMonitor(lambda batch: len(batch.query_rows)),
        lightning.SpikeDetection(),
        lightning.RichModelSummary(),
        TableFrozen(),
    ]
    run = train(callbacks=callbacks)
    assert run.folder.finished and heard == [2]
    weights = load_file(run.path / "student" / "model.safetensors")
    tables = [name for name in weights if name.startswith("embeddings.")]
    start = load_encoder(str(teacher_folder)).backbone.state_dict()
    assert tables and all(torch.equal(weights[name], start[name]) for name in tables)
    assert train("bar", callbacks=[lightning.TQDMProgressBar()], enable_progress_bar=True).folder.finished


class TableFrozen(lightning.BaseFinetuning):
    """Leaves the word table as it is."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.encoder.backbone.embeddings)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        pass


class Recorder(Callback):
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        self.weights.append({name: weight.clone() for name, weight in pl_module.encoder.backbone.state_dict().items()})


def test_the_average_is_the_student(train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """The moving average by hand: it begins with the first weights, and each step takes half of the way."""
    monkeypatch.setattr(log, "propagate", True)
    recorder = Recorder()
    train(callbacks=[recorder, lightning.EMAWeightAveraging(decay=0.5)], max_epochs=2, limit_val_batches=0)
    student = load_file(tmp_path / "run" / "student" / "model.safetensors")
    assert len(recorder.weights) == 4
    for name, weight in student.items():
        average = recorder.weights[0][name]
        for weights in recorder.weights[1:]:
            average = (average + weights[name]) / 2
        assert torch.allclose(weight, average, atol=1e-6)
    assert "changed the weights" not in caplog.text


def test_dev_is_measured_with_the_average_alone(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """Documents of a student's own are embedded behind the queries, by the same weights: a run that begins from them measures the same."""

    def train(name: str, callbacks: list[Callback], **settings: Any) -> Run:
        data = distill.RetrievalData(distill.MsMarcoTsv(str(source_root)), str(store_folder), batch_size=8, candidates=2)
        module = StudentModule(StudentFromTeacher([3]), {"documents": DocumentMatching()}, documents="shared", **settings)
        return distill.train(module, data, tmp_path / name, **SHORT, callbacks=callbacks)

    averaged = train("averaged", [lightning.EMAWeightAveraging(decay=0.5)], learning_rate=1e-2)
    again = train("again", [], start_from=str(averaged.path / "checkpoints" / "best.ckpt"), learning_rate=1e-20)
    for name in ("dev/overlap@10", "dev/ndcg@10", "dev/cosine"):
        assert averaged.history[name].values[-1] == pytest.approx(again.history[name].values[-1], abs=1e-4)


class LateChange(Callback):
    """Changes the weights when the last checkpoint is written."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        for weight in pl_module.parameters():
            weight.data.zero_()


def test_a_change_that_is_lost_is_said(train: Any, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    monkeypatch.setattr(log, "propagate", True)
    train(callbacks=[LateChange()])
    assert "LateChange changed the weights after the last checkpoint: that is not in the result" in caplog.text


def test_what_another_run_left_is_no_start(train: Any, tmp_path: Path) -> None:
    """Lightning would load it into a new run, and say nothing."""
    (tmp_path / "on_exception.ckpt").write_bytes(b"of another run")
    with pytest.raises(BadInput, match=r"on_exception\.ckpt: left by OnExceptionCheckpoint"):
        train(callbacks=[lightning.OnExceptionCheckpoint(tmp_path)])
    assert not (tmp_path / "run").exists()


class OwnMetric(Callback):
    """Logs a name that the package does not know."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.log("mine/steps", float(trainer.global_step))


def test_a_training_on_the_cpu_computes_all_of_it_there(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are GPUs too."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", str)  # of the record
    assert train().folder.finished


def test_names_of_own_callbacks_may_be_watched(train: Any) -> None:
    assert train(callbacks=[OwnMetric(), lightning.EarlyStopping("mine/steps", mode="max")]).folder.finished


@pytest.mark.parametrize("init_args", [{"monitor": "dev/cosine", "mode": "up"}, {"monitor": 3}], ids=str)
def test_a_callback_that_refuses_its_arguments_is_one_line(
    init_args: dict[str, Any], source_root: Path, store_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": init_args}
    assert verb(*train_arguments(source_root, store_folder, tmp_path / "run", "--trainer.callbacks", json.dumps([callback]))) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "run").exists()
