"""`distill train`: trains the student and leaves a run folder."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from distill.callbacks.checkpoints import AtomicCheckpoints, BestCheckpoint, LastCheckpoint
from distill.callbacks.console import Console
from distill.callbacks.health import Health
from distill.callbacks.progress import Progress
from distill.callbacks.retrieval_eval import RetrievalEval
from distill.callbacks.run_log import RunLog, write_csv
from distill.callbacks.theory import Theory
from distill.callbacks.tracking import Examples, Meter, Tracking, log_lineage, make_tracker, wandb_runs
from distill.data.datamodule import RetrievalData
from distill.files.device import best_device, computes_bf16, fp32_products
from distill.modules.start import read_checkpoint
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.training.run_folder import RunFolder

TRAINER_DEFAULTS = {
    "max_epochs": 5,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # our loaders shard over ranks themselves, and count every query once
    "enable_progress_bar": sys.stderr.isatty(),  # quiet where nobody looks
}


def make_trainer_settings(out: Path, trainer: Any, checkpoint_every_n_steps: int, evaluation: Callback) -> dict[str, Any]:
    """What every run sets of the trainer: where things go, what happens beside learning, the fastest exact-enough number format."""
    run = RunFolder(out)
    if checkpoint_every_n_steps < 1:
        raise BadInput(f"checkpoint_every_n_steps: {checkpoint_every_n_steps}: must be at least 1")
    if trainer["accelerator"] in ("mps", "tpu"):
        raise BadInput(f"trainer.accelerator: {trainer['accelerator']}: only cpu and NVIDIA's gpu are supported: set cpu")
    if str(trainer["precision"]) in ("bf16-true", "16-true", "64-true", "64"):
        raise BadInput(f"trainer.precision: {trainer['precision']}: weights stay in fp32: set bf16-mixed or 32-true")
    accelerator = trainer["accelerator"] if trainer["accelerator"] != "auto" else best_device().type
    checkpoints = [BestCheckpoint(run.checkpoints), LastCheckpoint(run.checkpoints, checkpoint_every_n_steps)]
    bar = [Progress()] if trainer["enable_progress_bar"] else []
    return {
        "default_root_dir": out,
        "accelerator": accelerator,
        "callbacks": [*as_list(trainer["callbacks"]), *list_watchers(evaluation, out), *checkpoints, Console(), *bar],
        "logger": [RunLog(run.metrics), *(logger for logger in as_list(trainer["logger"]) if not isinstance(logger, bool))],
        "plugins": [*as_list(trainer["plugins"]), AtomicCheckpoints()],
        "precision": trainer["precision"] or ("bf16-mixed" if computes_bf16("cpu" if accelerator == "cpu" else "cuda") else "32-true"),
    }


def list_watchers(evaluation: Callback, out: Path) -> list[Callback]:
    """What looks at a student while it learns; a teacher's training has no other to be compared with."""
    if not isinstance(evaluation, RetrievalEval):
        return [evaluation]
    return [
        Health(out),
        evaluation,
        Theory(),
        Meter(),
        Examples(evaluation),
    ]  # health first: vectors that are no numbers cannot be searched for


def as_list(given: Any) -> list[Any]:
    """Lightning takes nothing, one object or a list of them."""
    return given if isinstance(given, list) else [] if given is None else [given]


def train(
    trainer: Trainer, module: StudentModule, data: RetrievalData, run: RunFolder, config: dict[str, Any], ckpt_path: str | None
) -> None:
    """Trains a student into the embedding space of its teacher; the same command goes on with an unfinished run.

    Everything that can be refused is refused before the run folder is touched.
    """
    check_length(trainer)
    if ckpt_path:
        read_checkpoint(ckpt_path)
    checkpoint = ckpt_path or (str(run.last_checkpoint) if run.last_checkpoint.exists() else None)
    data.setup("fit")
    module.prepare(data, begins=checkpoint is None)
    if trainer.is_global_zero:
        _lock = run.claim(config, str(trainer.precision), {"vectors": data.vector_fingerprints()}, data.removed_from_train)
    if run.finished:
        return print(f"{run.student}: done before")
    step = rewind_logs(checkpoint, trainer)
    if module.start_from and trainer.is_global_zero:
        begins = f"begins from the weights of {module.start_from}; everything else as model says"
        print(f"its weights win over model.start_from: {module.start_from}" if checkpoint else begins)
    with track_run(trainer, module, run, config, step):
        fit_to_end(trainer, module, data, checkpoint)
        if trainer.is_global_zero:
            kept = load_best_weights(module, run)
            module.save(run.student)
            log_lineage(trainer.loggers, run.student, Path(data.store_folder), run.record()["inputs"]["vectors"])
    if trainer.is_global_zero:
        print(f"{run.student}: the student of {kept}; next: distill evaluate {run.path}")


@contextmanager
def track_run(trainer: Trainer, module: LightningModule, run: RunFolder, config: dict[str, Any], step: int) -> Iterator[None]:
    """With the tracker that was asked for, added once the folder is the run's and told what the run is made from."""
    kind: Tracking = config["tracking"] if trainer.is_global_zero else "none"
    if added := make_tracker(kind, run.path, run.record()["provenance"] if trainer.is_global_zero else None, step):
        trainer.loggers = [*trainer.loggers, added]
        parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
        weights = {name: loss.weight for name, loss in getattr(module, "losses", {}).items()}
        added.log_hyperparams({**config, **run.record(), "parameters": parameters, "loss_weights": weights})
    code = 1
    try:
        yield
        code = 0
    finally:
        for tracking in wandb_runs(trainer.loggers):
            tracking.finish(exit_code=code)  # or a later run of this process would be taken for the same
        if kind == "csv":
            write_csv(run.metrics, run.path / "metrics.csv")


def check_length(trainer: Trainer) -> None:
    """Refuses a training that leaves nothing or has no end."""
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise BadInput("trainer.fast_dev_run: leaves no model: use --trainer.limit_train_batches for a short run")
    if not trainer.log_every_n_steps:  # type: ignore[attr-defined]
        raise BadInput("trainer.log_every_n_steps: 0: must be at least 1")
    if trainer.max_steps == -1 and trainer.max_epochs in (None, -1):
        raise BadInput("trainer.max_epochs: a schedule needs an end: set max_epochs or max_steps")


def fit_to_end(trainer: Trainer, module: LightningModule, data: LightningDataModule, checkpoint: str | None) -> None:
    """Trains to the end; a signal ends the process with its own exit code."""
    try:
        with fp32_products(trainer.strategy.root_device):  # those that mixed precision leaves, or all of them
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # how the trainer leaves after a signal
        if end.code == 0:
            raise  # but this is a rank that leaves it to the first to say why
        print(f"stopped at step {trainer.global_step}: the same command goes on", flush=True)
        raise (SystemExit(128 + signal.SIGTERM) if isinstance(end, SIGTERMException) else KeyboardInterrupt) from None


def load_best_weights(module: LightningModule, run: RunFolder) -> str:
    """Loads the weights that were best on dev, or the last where dev was never evaluated; says which they are."""
    evaluated = run.best_checkpoint.exists()
    kept = read_checkpoint(run.best_checkpoint if evaluated else run.last_checkpoint)
    module.load_state_dict(kept["state_dict"])
    return f"step {kept['global_step']}, " + (f"the best on dev by {module.best_by}" if evaluated else "the last: dev was never evaluated")


def rewind_logs(checkpoint: str | None, trainer: Trainer) -> int:
    """Says so, and forgets what was logged after it, or by a run that was killed before its first; returns the step it is of."""
    step = read_checkpoint(checkpoint)["global_step"] if checkpoint else 0
    if checkpoint:
        print(f"continues from {checkpoint} at step {step}, with the configuration given now")
    for logger in trainer.loggers:
        if isinstance(logger, RunLog):
            logger.rewind(step)
    return step


def quiet_lightning() -> None:
    """Silences Lightning's remarks about itself and about choices that are made on purpose here."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*in eval mode at the start of training.*",
        ".*does not have many workers.*",
        ".*Checkpoint directory.*exists.*",
        ".*treespec, LeafSpec.*is deprecated.*",
        ".*is smaller than the logging interval.*",
        ".*dirpath has changed from.*",
    ):
        warnings.filterwarnings("ignore", message)
