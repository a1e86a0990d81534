"""Two ranks with a GPU each send one another tensors of their GPUs alone, and train together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import on_ranks
from students import student_arguments


@pytest.mark.slow
def test_training(source_root: Path, store_folder: Path, teacher_folder: Path, tmp_path: Path) -> None:
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8, "--trainer.limit_train_batches", 5]
    arguments = student_arguments("shared documents", source_root, store_folder, teacher_folder, tmp_path / "run", *ranks)
    ended = on_ranks(*arguments, module="simulated_ranks")
    assert ended.returncode == 0, ended.stderr
    assert all(f"rank {rank}: 0 waits in 2 steps" in ended.stdout for rank in range(2)), ended.stdout
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("dev/overlap@10" in line for line in lines) and (tmp_path / "run" / "student").exists()
