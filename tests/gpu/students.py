"""The kinds of students that tests train on a simulated GPU, as options of `distill train` on the small world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from commands import QUERY_MATCHING, train_arguments

ON_GPU = ["--trainer.accelerator", "gpu", "--trainer.devices", 1, "--trainer.precision", "bf16-mixed"]
ONE_EPOCH = ["--trainer.max_epochs", 1, "--trainer.log_every_n_steps", 1000]
LOSSES = ("QueryMatching", "ContrastiveMatching", "SimilarityMatching", "ScoreDistillation", "MarginMSE", "ScoreMSE", "OneHot")
EVERY_LOSS = json.dumps({name: {"class_path": name} for name in LOSSES})
CANDIDATES = ["--data.candidates", 3]
TEACHER = "TEACHER"  # stands for the teacher's folder
KINDS: dict[str, list[Any]] = {
    "cut": [],
    "clipped": ["--trainer.gradient_clip_val", 1.0],
    "backbone": ["--model.student", "StudentFromBackbone", "--model.student.name", TEACHER],
    "static": ["--model.student", "StaticStudent"],
    "every loss": CANDIDATES,
    "shared documents": [*CANDIDATES, "--model.documents", "shared"],
    "separate documents": [*CANDIDATES, "--model.documents", "separate"],
    "teacher's documents": [*CANDIDATES, "--model.documents", "teacher"],
    "fresh": ["--data.fresh", "Crop"],
}


def student_arguments(kind: str, source: Path, store: Path, teacher: Path, out: Path, *more: Any) -> list[Any]:
    """Trains a student of that kind for an epoch of 6 steps; options in `more` win."""
    options = [teacher if option == TEACHER else option for option in KINDS[kind]]
    losses = EVERY_LOSS if "--data.candidates" in options else QUERY_MATCHING
    return train_arguments(source, store, out, *ON_GPU, *ONE_EPOCH, *options, *more, losses=losses)
