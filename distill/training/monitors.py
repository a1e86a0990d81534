"""The names that a training logs, which early stopping, checkpoints and schedules may watch, and the check of those that they do watch."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from types import CodeType
from typing import Any

from pytorch_lightning import Callback, Trainer

from distill.callbacks.abroad import OVERLAP, RETENTION
from distill.callbacks.checkpoints import BestCheckpoint
from distill.callbacks.diagnosis import Spread
from distill.data.base import SplitDataModule
from distill.metrics.query_means import judged_metrics
from distill.modules.cross_teacher import CrossTeacher
from distill.modules.schedule import ScheduledModule
from distill.modules.student import StudentModule
from distill.modules.teacher import TeacherModule
from distill.records import BadInput

OWN_PACKAGES = ("distill", "pytorch_lightning", "lightning_fabric", "torch", "builtins")
LOGGING = {"log", "log_dict"}
JUDGED = list(judged_metrics(1))


def check_monitors(trainer: Trainer, module: ScheduledModule, data: SplitDataModule) -> None:
    """Refuses a callback that watches a name which will not be logged.

    Where a module or a callback from outside the package logs names of its own, any name may be right, and nothing is refused.

    Args:
        trainer: the trainer with all its callbacks.
        module: the module, after its `prepare`.
        data: the data, after its `setup`.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if any(_logs_names(part) for part in [module, *callbacks]):
        return
    names = list_logged_names(trainer, module, data)
    for callback in callbacks:
        if isinstance(callback, BestCheckpoint):  # it writes nothing where dev is not evaluated
            continue
        _refuse_unknown(f"trainer.callbacks: {type(callback).__name__}", getattr(callback, "monitor", None), names, trainer)
    for schedule in trainer.lr_scheduler_configs if trainer.training else []:
        _refuse_unknown(type(schedule.scheduler).__name__, schedule.monitor if schedule.reduce_on_plateau else None, names, trainer)


class WatchedNames(Callback):
    """Checks what a schedule of a module's own watches, as soon as there is one: before the first step."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        check_monitors(trainer, pl_module, trainer.datamodule)  # type: ignore[attr-defined]


def _refuse_unknown(watcher: str, monitor: Any, names: list[str], trainer: Trainer) -> None:
    if not isinstance(monitor, str) or monitor in names:
        return
    without_dev = "" if evaluates_dev(trainer) else "; dev is not evaluated"
    nearest = get_close_matches(monitor, names, n=1)
    suggestion = f": did you mean {nearest[0]}?" if nearest else ""
    raise BadInput(f"{watcher}: monitor: {monitor!r} is not logged{without_dev}: there are {', '.join(names)}{suggestion}")


def evaluates_dev(trainer: Trainer) -> bool:
    """Whether any epoch of a training ends with an evaluation on dev."""
    if trainer.limit_val_batches == 0:
        return False
    every_n_epochs, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    return every_n_epochs is None or epochs in (None, -1) or every_n_epochs <= epochs


def list_logged_names(trainer: Trainer, module: ScheduledModule, data: SplitDataModule) -> list[str]:
    """Lists what is logged of a training, as metrics.jsonl has it, dev first. The arguments are those of `check_monitors`."""
    dev = list(_list_dev_names(module, data)) if evaluates_dev(trainer) else []
    training = ["train/loss"]
    if isinstance(module, CrossTeacher):
        training += ["train/one_hot", *(["train/regulariser"] if module.regulariser else [])]
    if isinstance(module, StudentModule):
        training += [f"train/{name}" for name in module.losses]
        system = ["queries_per_second", "tokens_per_second", "memory_gb", "cpu_percent"]
        if trainer.strategy.root_device.type == "cuda":
            system += ["gpu_memory_gb", "gpu_percent"]
        training += ["optim/learning_rate", "optim/gradient_norm", *(f"system/{name}" for name in system)]
    return [*dev, *training]


def _list_dev_names(module: ScheduledModule, data: Any) -> Iterator[str]:
    if isinstance(module, TeacherModule):
        yield from [f"dev/{name}" for name in _list_teacher_metrics(module)]
        return
    if not isinstance(module, StudentModule):
        return
    judged = [*JUDGED, *(f"retention_{name}" for name in JUDGED)] if data.dev_qrels is not None else []
    places = [*(f"{collection.name}/" for collection in data.dev_collections), "abroad_", "mean_"] if data.dev_collections else []
    abroad = [f"{place}{name}" for place in places for name in (OVERLAP, RETENTION)]
    yield from [f"dev/{name}" for name in [*judged, "overlap@10", "cosine", *abroad, "seconds"]]
    yield from [f"health/{name}" for name in Spread._fields]
    theory = ["r_emb_q", "r_emb_q_train"]
    if module.document_tower is not None:
        theory.append("r_emb_d_train")
    elif judged:
        theory += ["teacher_deviation", "gap"]
    yield from [f"theory/{name}" for name in theory]


def _list_teacher_metrics(module: TeacherModule) -> list[str]:
    if module.dev_measure == "likelihood":
        return ["log_likelihood"]
    first_stage = [f"first_stage_{name}" for name in JUDGED] if module.dev_measure == "rerank" else []
    return [*JUDGED, *first_stage, "seconds"]


def _logs_names(part: object) -> bool:
    """Whether a class from outside the package, or a function that it was given, may log."""
    # such as those of a LambdaCallback; in a training the trainer gives every callback the function `log`
    functions = [value for name, value in vars(part).items() if callable(value) and name not in LOGGING]
    for kind in type(part).__mro__:
        if kind.__module__.partition(".")[0] not in OWN_PACKAGES:
            functions += [getattr(value, "fget", value) for value in vars(kind).values()]
    codes = [getattr(getattr(function, "__func__", function), "__code__", None) for function in functions]
    return any(code is not None and _mentions_logging(code) for code in codes)


def _mentions_logging(code: CodeType) -> bool:
    nested = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return bool(LOGGING & {*code.co_names}) or any(_mentions_logging(inner) for inner in nested)
