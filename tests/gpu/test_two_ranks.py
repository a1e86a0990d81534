"""Two ranks with a GPU each send one another tensors of their GPUs alone, and train together."""

from __future__ import annotations

import json
from pathlib import Path

from commands import on_ranks, train_arguments
from students import EVERY_LOSS, ON_GPU


def test_training(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    kind = ["--data.candidates", 3, "--model.documents", "shared", "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 3]
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8]
    arguments = train_arguments(source_root, store_folder, tmp_path / "run", *ON_GPU, *kind, *ranks, losses=EVERY_LOSS)
    ended = on_ranks(*arguments, module="simulated_ranks")
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("dev/overlap@10" in line for line in lines) and (tmp_path / "run" / "student").exists()
