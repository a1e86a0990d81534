"""The kinds of students that tests train on a simulated GPU, as options of `distill train` on the small world."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from commands import train_arguments
from simulated_gpu import Wait

ON_GPU = ["--trainer.accelerator", "gpu", "--trainer.devices", 1, "--trainer.precision", "bf16-mixed"]
ONE_EPOCH = ["--trainer.max_epochs", 1, "--trainer.log_every_n_steps", 1000]
NOTE_WAITS = ["--trainer.callbacks", '[{"class_path": "step_waits.StepWaits"}]']
EVERY_LOSS = ["QueryMatching", "ContrastiveMatching", "SimilarityMatching", "ScoreDistillation", "MarginMSE", "ScoreMSE", "OneHot"]
CANDIDATES = ["--data.candidates", 3]
TEACHER = "TEACHER"  # stands for the teacher's folder
KINDS: dict[str, list[Any]] = {
    "cut": [],
    "clipped, with a progress bar": ["--trainer.gradient_clip_val", 1.0, "--trainer.enable_progress_bar", "true"],
    "backbone": ["--model.student", "StudentFromBackbone", "--model.student.name", TEACHER],
    "static": ["--model.student", "StaticStudent"],
    "every loss": CANDIDATES,
    "shared documents": [*CANDIDATES, "--model.documents", "shared"],
    "separate documents": [*CANDIDATES, "--model.documents", "separate"],
    "teacher's documents": [*CANDIDATES, "--model.documents", "teacher"],
    "fresh": ["--data.fresh", "Crop"],
}


class Training(NamedTuple):
    """A student that was trained on the GPU.

    Attributes:
        run: its run folder.
        waits: how often its steps made the host wait; of all steps but the first two, which make what later ones use, and the last.
        steps: how many steps these are.
    """

    run: Path
    waits: Counter[Wait]
    steps: int


TrainStudent = Callable[[str], Training]


def student_arguments(kind: str, source: Path, store: Path, teacher: Path, out: Path, *more: Any) -> list[Any]:
    """Trains a student of that kind for an epoch of 6 steps; options in `more` win."""
    options = [teacher if option == TEACHER else option for option in KINDS[kind]]
    return train_arguments(source, store, out, *ON_GPU, *ONE_EPOCH, *NOTE_WAITS, *options, *more, losses=name_losses(options))


def name_losses(options: list[Any]) -> str:
    """Every loss that such a student can learn from, as the option `--model.losses`."""
    names = EVERY_LOSS if "--data.candidates" in options else ["QueryMatching"]
    documents = ["DocumentMatching"] if "--model.documents" in options else []
    return json.dumps({name: {"class_path": name} for name in [*names, *documents]})
