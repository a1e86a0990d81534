"""Trackers to watch a run by: TensorBoard, Weights & Biases, a CSV file; all of them beside metrics.jsonl, which is always there."""

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
    """Makes the logger of a kind; None where there is nothing to log to while training.

    Only `wandb` sends anything anywhere. A run that goes on goes on in the same wandb run; offline in a folder of its own, which
    `wandb sync` joins by its id. The axis is trainer/global_step in all of them. Of steps that come again after a kill, TensorBoard
    forgets the first values, wandb shows both.

    Args:
        kind: which tracker.
        folder: the run folder.
        identity: plain values that differ from those of an earlier run in the same folder.
        step: where the run begins, or goes on.
    """
    from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

    if kind in ("none", "csv"):
        return None
    if kind == "tensorboard":
        return TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=step or None)
    run_id = os.environ.get("WANDB_RUN_ID") or fingerprint(str(folder.resolve()), identity)  # a sweep names its runs itself
    return WandbLogger(name=folder.name, save_dir=folder, project="distill", id=run_id, offline=kind == "wandb-offline", resume="allow")


def check_installed(kind: Tracking) -> None:
    """Refuses a tracker whose package is not here, before anything is made for it."""
    package = kind.partition("-")[0]
    if package in ("tensorboard", "wandb") and find_spec(package) is None:
        raise BadInput(f"tracking: {package} is not installed: install the extra `track`")


def log_lineage(loggers: list[Logger], student: Path, store: Path, metadata: dict[str, Any]) -> None:
    """Logs the student's folder, and which store it learnt from, as artifacts of wandb; the store's vectors stay where they are."""
    for run in wandb_runs(loggers):
        import wandb

        vectors = wandb.Artifact(f"store-{metadata['teacher']}", "dataset", metadata={**metadata, "folder": str(store.resolve())})
        vectors.add_file(str(store / "documents" / "manifest.json"), name="documents.json")
        # offline nothing can be looked up: there the store is an output too
        if run.settings._offline:
            run.log_artifact(vectors)
        else:
            run.use_artifact(vectors)
        model = wandb.Artifact(f"student-{run.id}", "model", metadata=metadata)
        model.add_dir(str(student))
        run.log_artifact(model)


def wandb_runs(loggers: list[Logger]) -> list[Any]:
    """The wandb runs among the loggers'."""
    from pytorch_lightning.loggers import WandbLogger

    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]
