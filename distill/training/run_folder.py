"""The run folder: what a training run leaves, and how later verbs find it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml

from distill.data.datamodule import RetrievalData
from distill.files.atomic import read_json, write_atomically, write_json
from distill.files.configs import from_config, with_current_class_paths
from distill.files.locks import lock_folder
from distill.files.provenance import collect_provenance
from distill.modules.start import START
from distill.records import BadInput, one_line
from distill.texts.text_source import TextSource
from distill.vectors.store import TeacherStore

# trainer settings that change what is learnt; the others (devices, logging, progress) may differ when a run is continued
LEARNING_SETTINGS = (
    "max_epochs",
    "max_steps",
    "max_time",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "limit_train_batches",
    "limit_val_batches",
    "overfit_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
)


class RunFolder:
    """The files of one run and what they say.

    Args:
        path: the folder.
        result: what the run leaves when it ends.
    """

    def __init__(self, path: Path, result: Literal["student", "teacher"] = "student"):
        self.path, self.result = path, result
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.student = path / "student"
        self.teacher = path / "teacher"
        self.start = path / START  # the model that a teacher's training began from

    @property
    def finished(self) -> bool:
        """Whether the run has left its result, which is written last."""
        return (self.path / self.result).exists()

    def claim(self, config: dict[str, Any], precision: str, fingerprints: dict[str, dict[str, str]], removed_from_train: int) -> Any:
        """Takes the folder for a run of this configuration on these inputs, or goes on with one; refuses one made from others.

        Args:
            config: the whole configuration as plain values.
            precision: the number format in use.
            fingerprints: those of inputs beside the configuration, by kind: the teacher and each set of its vectors are `vectors`.
            removed_from_train: training queries that were left out, as another split has them too.

        Returns:
            A lock: while it is referred to no other process may write the folder. None for a finished run.
        """
        inputs = {key: config[key] for key in ("seed_everything", "model", "data")}
        inputs["trainer"] = {key: config["trainer"].get(key) for key in LEARNING_SETTINGS} | {"precision": precision}
        inputs |= fingerprints
        self._refuse_other_inputs(inputs)
        if self.finished:
            return None
        lock = lock_folder(self.path)
        self._refuse_other_inputs(inputs)  # again: another process may just have written it
        if not self.config.exists():
            with write_atomically(self.config) as temporary:
                temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        if not (self.path / "run.json").exists():
            # last: its existence means that the folder is this run's
            write_json(
                self.path / "run.json", {"inputs": inputs, "removed_from_train": removed_from_train, "provenance": collect_provenance()}
            )
        return lock

    def _refuse_other_inputs(self, inputs: dict[str, Any]) -> None:
        if (self.path / "run.json").exists():
            difference = first_difference(self.record()["inputs"], with_current_class_paths(inputs))
            if difference is not None:
                raise BadInput(f"{self.path}: made from other inputs: {difference}: choose another --out or delete it")
            return
        if not self.path.exists():
            return
        others = [path for path in self.path.iterdir() if path.name[0] != "." and path.name != "config.yaml"]
        if others:
            raise BadInput(f"{self.path}: not a run folder and not empty: choose another --out")

    def record(self) -> dict[str, Any]:
        """What the run was made from, and where; class paths of earlier releases are given as this one has them."""
        record = read_json(self.path / "run.json", "run record")
        inputs = record.get("inputs") if isinstance(record, dict) else None
        if not isinstance(inputs, dict) or not isinstance(inputs.get("trainer"), dict):
            raise BadInput(f"{self.path / 'run.json'}: not the record of a run: restore it")
        return {**record, "inputs": with_current_class_paths(inputs)}

    def teacher_store(self, folder: str) -> TeacherStore:
        """The store in `folder`; refuses one by another teacher than the student learnt from."""
        store = TeacherStore(folder)
        vectors = self.record()["inputs"].get("vectors")
        if not isinstance(vectors, dict) or store.maker.fingerprint != vectors.get("teacher"):
            raise BadInput(f"{folder}: made by {store.maker.name}, another teacher than the one that {self.path} learnt from")
        return store

    def settings(self) -> dict[str, Any]:
        """The configuration the run was made with."""
        if not self.config.exists():
            raise BadInput(f"{self.path}: no run folder (it has no config.yaml): run distill train")
        try:
            settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise BadInput(f"{self.config}: not valid YAML ({one_line(error)}): restore it") from None
        if not isinstance(settings, dict) or not all(isinstance(settings.get(part), dict) for part in ("model", "data")):
            raise BadInput(f"{self.config}: not the configuration of a run: restore it")
        return with_current_class_paths(settings)

    def data(self) -> RetrievalData:
        """The data module the run was trained with."""
        try:
            data = RetrievalData(**from_config(self.settings()["data"]))
            for name, kind in {"source": TextSource, "store_folder": str, "train_split": str, "dev_split": str}.items():
                value = getattr(data, name)
                if not isinstance(value, kind):
                    raise TypeError(f"{name} is {value!r}")
            return data
        except (KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
            raise BadInput(f"{self.config}: data: describes no data ({one_line(error)}): restore it") from None

    @property
    def inherits_documents(self) -> bool:
        """Whether the student searches the teacher's vectors; another embeds the documents itself."""
        return self.settings()["model"].get("documents", "inherited") == "inherited"

    def require_student(self) -> Path:
        """The folder of the student; refuses a run that has not ended."""
        self.settings()
        if not self.finished:
            raise BadInput(f"{self.path}: no student in it yet: run distill train --out {self.path} to its end")
        return self.student


def first_difference(before: Any, now: Any, key: str = "") -> str | None:
    """`key was x, now y` for the first place where two configurations differ; None where they are equal.

    >>> first_difference({"data": {"batch_size": 64}}, {"data": {"batch_size": 32}})
    'data.batch_size was 64, now 32'
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            difference = first_difference(before.get(name), now.get(name), f"{key}.{name}" if key else name)
            if difference is not None:
                return difference
        return None
    return None if before == now else f"{key} was {before}, now {now}"
