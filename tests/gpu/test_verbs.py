"""Every verb that computes runs on a GPU as far as devices go: no operation mixes tensors of the host and of the GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import QUERY_MATCHING, distill, teach_arguments, train_arguments
from simulated_gpu import SimulatedGpu

ON_GPU = ["--trainer.accelerator", "gpu", "--trainer.devices", 1, "--trainer.precision", "bf16-mixed"]
ONE_EPOCH = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2]
LOSSES = ("QueryMatching", "ContrastiveMatching", "SimilarityMatching", "ScoreDistillation", "MarginMSE", "ScoreMSE", "OneHot")
EVERY_LOSS = json.dumps({name: {"class_path": name} for name in LOSSES})


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--data.candidates", 3],
        ["--data.candidates", 3, "--model.documents", "shared"],
        ["--data.candidates", 3, "--model.documents", "separate", "--trainer.gradient_clip_val", 1.0],
        ["--data.fresh", "Crop"],
    ],
    ids=["queries", "all losses", "shared", "separate and clipped", "fresh"],
)
def test_training(source_root: Path, store_folder: Path, gpu: SimulatedGpu, tmp_path: Path, more: list[Any]) -> None:
    losses = EVERY_LOSS if "--data.candidates" in more else QUERY_MATCHING
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *ON_GPU, *ONE_EPOCH, *more, losses=losses)) == 0
    assert distill("evaluate", tmp_path / "run") == 0


@pytest.mark.parametrize("model", ["DualTeacher", "CrossTeacher"])
def test_teaching(source_root: Path, teacher_folder: Path, store_folder: Path, gpu: SimulatedGpu, tmp_path: Path, model: str) -> None:
    more = ["--model.recompute", "true"] if model == "DualTeacher" else ["--data.first_stage", store_folder]
    assert distill(*teach_arguments(source_root, teacher_folder, tmp_path / "run", *more, *ON_GPU, *ONE_EPOCH, model=model)) == 0
