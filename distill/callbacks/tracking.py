"""Trackers of a run: TensorBoard, Weights & Biases, a CSV file. metrics.jsonl is always written too."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger

from distill.files.fingerprints import fingerprint
from distill.records import BadInput

Tracking = Literal["none", "csv", "tensorboard", "wandb", "wandb-offline"]


def make_tracker(kind: Tracking, folder: Path, identity: Any, step: int) -> Logger | None:
    """Makes the logger of a tracker; None for `none`, and for `csv`, which is written at the end.

    Only `wandb` sends data over the network. A continued run is the same wandb run; offline it gets a new folder, which `wandb sync`
    joins by the id of the run. The axis is always trainer/global_step. If steps are repeated after a kill, TensorBoard shows only the new
    values and wandb shows both.

    Args:
        kind: kind of the tracker.
        folder: the run folder.
        identity: plain values that distinguish the run from an earlier one in the same folder.
        step: step at which the run begins or continues.
    """
    from pytorch_lightning.loggers import WandbLogger

    if kind in ("none", "csv"):
        return None
    if kind == "tensorboard":
        from distill.callbacks.tensorboard_logger import EventLogger

        return EventLogger(folder, purge_step=step or None)
    assert kind in ("wandb", "wandb-offline")
    run_id = os.environ.get("WANDB_RUN_ID") or fingerprint(str(folder.resolve()), identity)  # a sweep sets WANDB_RUN_ID
    return WandbLogger(name=folder.name, save_dir=folder, project="distill", id=run_id, offline=kind == "wandb-offline", resume="allow")


def check_installed(kind: Tracking) -> None:
    """Refuses a tracker whose package is not installed."""
    package = kind.partition("-")[0]
    if package in ("tensorboard", "wandb") and find_spec(package) is None:
        raise BadInput(f"tracking: {package} is not installed: install the extra `track`")


def log_lineage(loggers: list[Logger], student: Path, store: Path, metadata: dict[str, Any]) -> None:
    """Logs the student's folder and the manifest of its teacher's store as artifacts of wandb; the vectors are not uploaded."""
    for run in wandb_runs(loggers):
        import wandb

        vectors = wandb.Artifact(f"store-{metadata['teacher']}", "dataset", metadata={**metadata, "folder": str(store.resolve())})
        vectors.add_file(str(store / "documents" / "manifest.json"), name="documents.json")
        # use_artifact has to look the artifact up online; an offline run logs the store as an output instead
        if run.settings._offline:
            run.log_artifact(vectors)
        else:
            run.use_artifact(vectors)
        model = wandb.Artifact(f"student-{run.id}", "model", metadata=metadata)
        model.add_dir(str(student))
        run.log_artifact(model)


def wandb_runs(loggers: list[Logger]) -> list[Any]:
    """Returns the wandb runs of the loggers."""
    from pytorch_lightning.loggers import WandbLogger

    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]
