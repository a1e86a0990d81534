"""What a training step hands to the losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import distill, train_arguments

from distill import losses


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_losses_see_exact_scores(precision: str, source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    exact = '{"exact": {"class_path": "exact_scores.WantsExactScores"}}'
    options = ["--trainer.precision", precision, "--trainer.max_epochs", 1, "--data.candidates", 3]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *options, losses=exact)) == 0


def test_every_loss_that_needs_no_document_tower_trains(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    names = sorted(set(losses.__all__) - {"Loss", "LossInputs", "DocumentMatching"})
    given = json.dumps({name.lower(): {"class_path": name} for name in names})
    options = ["--data.candidates", 3, "--trainer.max_epochs", 3]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *options, losses=given)) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name in names:
        values = [line[f"train/{name.lower()}"] for line in log if f"train/{name.lower()}" in line]
        assert len(values) == 18
        # labels are the one thing that the teacher's vectors do not promise
        assert name == "OneHot" or sum(values[-6:]) < sum(values[:6]), name
