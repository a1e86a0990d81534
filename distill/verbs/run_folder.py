"""The run folder: what a training run leaves, and how later verbs find it again."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distill.artefacts import read_json, write_json
from distill.data.datamodule import RetrievalData
from distill.provenance import provenance
from distill.records import BadInput

# trainer settings that change what is learnt; the others (devices, logging, progress) may differ when a run is continued
LEARNING_SETTINGS = ("max_epochs", "max_steps", "precision", "gradient_clip_val", "accumulate_grad_batches", "limit_train_batches")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def student(self) -> Path:
        return self.path / "student"

    @property
    def finished(self) -> bool:
        return self.student.exists()  # written last

    def claim(self, config: dict[str, Any], config_text: str) -> None:
        """Takes the folder for a run of this configuration, or goes on with one; refuses one made from other inputs."""
        inputs = {key: config[key] for key in ("seed_everything", "model", "data")}
        inputs["trainer"] = {key: config["trainer"].get(key) for key in LEARNING_SETTINGS}
        record = self.path / "run.json"
        if record.exists():
            before = read_json(record, "run record")["inputs"]
            if difference := first_difference(before, inputs):
                raise BadInput(f"{self.path}: made from other inputs: {difference}: choose another --out or delete it")
        elif self.path.exists() and any(self.path.iterdir()):
            raise BadInput(f"{self.path}: not a run folder and not empty: choose another --out")
        else:
            write_json(record, {"inputs": inputs, "provenance": provenance()})
            self.config.write_text(config_text, encoding="utf-8")

    def settings(self) -> dict[str, Any]:
        """The configuration the run was made with."""
        if not self.config.exists():
            raise BadInput(f"{self.path}: no run folder (it has no config.yaml): run distill train")
        return yaml.safe_load(self.config.read_text(encoding="utf-8"))

    def data(self) -> RetrievalData:
        """The data module the run was trained with."""
        return RetrievalData(**instantiated(self.settings()["data"]))

    def needs_student(self) -> Path:
        self.settings()
        if not self.finished:
            raise BadInput(f"{self.path}: no student in it yet: run distill train --out {self.path} to its end")
        return self.student


def instantiated(node: Any) -> Any:
    """Replaces every {class_path, init_args} of a parsed configuration by the object it describes."""
    if isinstance(node, list):
        return [instantiated(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "class_path" not in node:
        return {key: instantiated(value) for key, value in node.items()}
    module, name = node["class_path"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**instantiated(node.get("init_args", {})))


def first_difference(before: Any, now: Any, key: str = "") -> str | None:
    """`key was x, now y` for the first place where two configurations differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            if found := first_difference(before.get(name), now.get(name), f"{key}.{name}" if key else name):
                return found
        return None
    return None if before == now else f"{key} was {before}, now {now}"
