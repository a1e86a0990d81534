"""The run folder: the files of a training run, for the training itself and for later commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from distill.data.datamodule import RetrievalData
from distill.encoders.folder import has_module_list
from distill.encoders.modules import EncoderModule
from distill.encoders.modules_folder import is_standard, read_module_list
from distill.encoders.students import StudentSpec
from distill.files.atomic import read_json, refuse_unreadable, write_atomically, write_json
from distill.files.configs import describe_trust, from_config, is_imported, list_class_paths, load_class, with_current_class_paths
from distill.files.links import refuse_special_files
from distill.files.locks import lock_folder
from distill.files.provenance import collect_provenance
from distill.files.temporaries import remove
from distill.files.yaml_files import read_yaml
from distill.modules.start import START
from distill.records import BadInput, NeedsTrust, one_line
from distill.texts.described_source import make_described_source
from distill.training.run_paths import find_moved_paths, with_absolute_paths
from distill.vectors.store import TeacherStore

EARLIER_IS_KEPT = "The student is that of the earlier job: the training that is described here made it no better."
SEVERAL = "frontier.json"  # file of a folder in which `frontier` puts several runs
JOB = "shrink.json"  # file of a folder in which `shrink` puts texts, vectors and run together
CONFIG_KEYS = ("seed_everything", "model", "data", "trainer", "out", "ckpt_path")  # of every run's config.yaml
# trainer settings that change the result; others (devices, logging, progress) may differ when a run is continued
LEARNING_SETTINGS = (
    "max_epochs",
    "max_steps",
    "max_time",
    "min_epochs",
    "min_steps",
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
    """The files of one run and their content.

    Args:
        path: the folder.
        result: whether the run trains a student or a teacher.
        trust: whether its files may name code of other packages, which is then imported, and sources of texts that do more than read
            files; no folder from somebody else should.
    """

    def __init__(self, path: Path, result: Literal["student", "teacher"] = "student", trust: bool = False):
        self.path, self.result, self.trust = path, result, trust
        self._is_checked = trust  # for files that are none
        self.config = path / "config.yaml"
        self.run_record = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.known_queries = path / "known_queries.npz"  # what the queries that it learnt from are like
        self.student = path / "student"
        self.teacher = path / "teacher"
        self.start = path / START  # the model that a teacher's training began from

    @property
    def finished(self) -> bool:
        """Whether the result of the run exists; it is written last."""
        return (self.path / self.result).exists()

    @contextmanager
    def claim(
        self, config: dict[str, Any], precision: str, fingerprints: dict[str, dict[str, str]], removed_from_train: int
    ) -> Iterator[None]:
        """Reserves the folder for a run with this configuration and these inputs; refuses the folder of another run.

        Until the `with` block ends no other process may write to the folder; for a finished run it locks nothing. Where the block is
        refused before anything is trained, the folder is free again.

        Args:
            config: the whole configuration as plain values.
            precision: the number format in use.
            fingerprints: fingerprints of the inputs, by kind, e.g. `vectors` for the teacher and its stores.
            removed_from_train: number of training queries that were left out, because another split has them too.
        """
        config = {**config, **with_absolute_paths({key: config[key] for key in ("model", "data")}), "out": os.path.abspath(self.path)}
        inputs = {key: config[key] for key in ("seed_everything", "model", "data")}
        inputs["trainer"] = {key: config["trainer"].get(key) for key in LEARNING_SETTINGS} | {"precision": precision}
        inputs |= fingerprints
        self._refuse_other_inputs(inputs)
        if self.finished:
            yield
            return
        with lock_folder(self.path):
            self._refuse_other_inputs(inputs)  # again: another process may just have written it
            is_new = not self.run_record.exists()
            if is_new:
                # also where there is one: a kill between the two files left it, perhaps of other inputs
                with write_atomically(self.config) as temporary:
                    temporary.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
                # written last: once it exists, the folder belongs to this run
                record = {"inputs": inputs, "removed_from_train": removed_from_train, "provenance": collect_provenance()}
                write_json(self.run_record, record)
            try:
                yield
            except BadInput:
                if is_new:
                    self._free()
                raise

    def _free(self) -> None:
        """Removes what a run wrote that was refused before it trained; what is more than that stays, and belongs to the run."""
        tracked = [self.path / name for name in ("metrics.csv", "tensorboard", "wandb", "health.jsonl")]
        written = [self.run_record, self.config, self.metrics, self.start, self.checkpoints, *tracked]
        others = [path for path in self.path.iterdir() if path.name[0] != "." and path not in written]
        if others or any(self.checkpoints.glob("*")):
            return
        for path in written:
            remove(path)

    @property
    def unlearnt_jobs(self) -> int:
        """Of how many of the latest calls of `shrink --continue` the student did not learn, as it was better before."""
        if not (self.path / JOB).exists():
            return 0
        with refuse_unreadable("record of a shrink job", self.path / JOB):
            decisions = read_json(self.path / JOB, "record of a shrink job")["decisions"]
            return int(decisions.get("unlearnt", int("kept" in decisions)))

    def _refuse_other_inputs(self, inputs: dict[str, Any]) -> None:
        if self.run_record.exists():
            before = with_absolute_paths(self.record()["inputs"])  # release 0.1 recorded paths as they were given
            difference = first_difference(before, with_current_class_paths(inputs))
            if difference is not None:
                raise BadInput(f"{self.path}: made from other inputs: {difference}: choose another --out or delete it")
            return
        if not self.path.exists():
            return
        self._refuse_given_config()
        if (self.path / JOB).exists():
            return
        others = [path for path in self.path.iterdir() if path.name[0] != "." and path != self.config]
        if self.run_record in others:  # another process has just begun the run
            self._refuse_other_inputs(inputs)
        elif others:
            raise BadInput(f"{self.path}: not a run folder and not empty: choose another --out")

    def _refuse_given_config(self) -> None:
        """Refuses a config.yaml that no run wrote: the run's own would take its place."""
        if not os.path.lexists(self.config):
            return
        try:
            is_of_a_run = set(CONFIG_KEYS) <= set(self._read_config())
        except (BadInput, OSError, TypeError):
            is_of_a_run = False
        if not is_of_a_run:
            raise BadInput(f"{self.config}: the run's own would take its place: move it elsewhere and name it in --config")

    def record(self) -> dict[str, Any]:
        """Reads the inputs and the provenance of the run; class paths of earlier releases are converted to those of this one."""
        record = read_json(self.run_record, "run record")
        inputs = record.get("inputs") if isinstance(record, dict) else None
        if not isinstance(inputs, dict) or not isinstance(inputs.get("trainer"), dict):
            raise BadInput(f"{self.run_record}: not the record of a run: restore it")
        settings = self._read_config()
        with refuse_unreadable("the record of a run", self.run_record):
            return {**record, "inputs": self._find_moved_paths(with_current_class_paths(inputs), settings)}

    def teacher_store(self, folder: str) -> TeacherStore:
        """Opens the store in `folder`; refuses a store of another teacher than the student's."""
        store = TeacherStore(folder)
        vectors = self.record()["inputs"].get("vectors")
        if not isinstance(vectors, dict) or store.maker.fingerprint != vectors.get("teacher"):
            raise BadInput(f"{folder}: made by {store.maker.name}, another teacher than the one that {self.path} learnt from")
        return store

    def settings(self) -> dict[str, Any]:
        """Reads the configuration of the run; its paths are those of now, also where the folder was moved."""
        settings = self._read_config()
        with refuse_unreadable("the configuration of a run", self.config):
            return self._find_moved_paths(with_current_class_paths(settings), settings)

    def _read_config(self) -> dict[str, Any]:
        if not self.config.exists():
            if (self.path / SEVERAL).exists():
                chosen = read_json(self.path / SEVERAL, "students")
                runs = [student["run"] for student in chosen["students"] if student["name"] == chosen["recommended"]]
                raise BadInput(f"{self.path}: has several students: name the run folder of one, e.g. {self.path / runs[0]}")
            raise BadInput(f"{self.path}: no run folder (it has no config.yaml): run distill train")
        if not self._is_checked:
            refuse_special_files(self.path)
            self._is_checked = True
        settings = read_yaml(self.config)
        if not isinstance(settings, dict) or not all(isinstance(settings.get(part), dict) for part in ("model", "data")):
            raise BadInput(f"{self.config}: not the configuration of a run: restore it")
        return settings

    def _find_moved_paths(self, node: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        before = settings.get("out")
        return find_moved_paths(node, before, self.path) if isinstance(before, str) else node

    def data(self) -> RetrievalData:
        """Makes the data module of the run as far as an evaluation needs it: its texts, its store and the names of its splits."""
        settings = self.settings()["data"]
        try:
            source = make_described_source(settings["source"], self.trust)
            names = {name: settings[name] for name in ("store", "train", "dev") if name in settings}
            for name, value in names.items():
                if not isinstance(value, str):
                    raise TypeError(f"{name} is {value!r}")
            return RetrievalData(source, **names)
        except NeedsTrust as error:
            raise NeedsTrust(f"{self.config}: data.{error}") from None
        except (KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
            raise BadInput(f"{self.config}: data: describes no data ({one_line(error)}): restore it") from None

    def student_spec(self) -> StudentSpec:
        """Makes what the student of the run is made from; other kinds of objects are not made from its configuration."""
        node = self.settings()["model"].get("student")
        for path, _ in list_class_paths(node):
            if not issubclass(load_class(path, self.trust), StudentSpec):
                raise BadInput(f"{self.config}: model.student: {path}: makes no student: restore it")
        spec = from_config(node, self.trust)
        if not isinstance(spec, StudentSpec):
            raise BadInput(f"{self.config}: model.student: describes no student: restore it")
        return spec

    @property
    def inherits_documents(self) -> bool:
        """Whether the student searches the teacher's document vectors, and does not embed documents itself."""
        return self.settings()["model"].get("documents", "inherited") == "inherited"

    def require_student(self) -> Path:
        """Returns the folder of the student; refuses an unfinished run."""
        self._import_student_class()
        if not self.finished:
            raise BadInput(f"{self.path}: no student in it yet: run distill train --out {self.path} to its end")
        return self.student

    def _import_student_class(self) -> None:
        """Imports the class that made the student: its package defines the modules that a folder of another package names."""
        student = self.settings()["model"].get("student")
        path = student.get("class_path") if isinstance(student, dict) else None
        if not isinstance(path, str) or path.startswith("distill."):
            return
        if self.trust or is_imported(path):
            load_class(path, self.trust)
        elif not knows_modules(self.student):
            raise NeedsTrust(f"{self.config}: model.student: {path}: {describe_trust('is code outside of this package')}")


def knows_modules(folder: Path) -> bool:
    """Whether the modules of an encoder's folder are those of this package and of others that the program has imported."""
    if not has_module_list(folder):
        return True
    with refuse_unreadable("a model folder", folder):
        return all(is_standard(entry) or entry.type in EncoderModule.classes for entry in read_module_list(folder))


def first_difference(before: Any, now: Any, key: str = "") -> str | None:
    """Describes the first difference of two configurations as `key was x, now y`; None if they are equal.

    >>> first_difference({"data": {"batch_size": 64}}, {"data": {"batch_size": 32}})
    'data.batch_size was 64, now 32'
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            if name in ("keep_own_documents", "student_prompt") and name not in before:
                continue  # unknown to releases up to 0.2; where it matters, "own_documents" of the vectors, or "dropped_prompt", differ
            difference = first_difference(before.get(name), now.get(name), f"{key}.{name}" if key else name)
            if difference is not None:
                return difference
        return None
    if before is None and now is False:  # an option that an earlier release did not have
        return None
    return None if before == now or _is_same_path(before, now) else f"{key} was {before}, now {now}"


def _is_same_path(before: Any, now: Any) -> bool:
    """Whether two values are one path, one of them absolute; a file that is gone keeps the path that was given."""
    return isinstance(before, str) and isinstance(now, str) and os.path.abspath(before) == os.path.abspath(now)
