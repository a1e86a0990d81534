"""Trains or fine-tunes a teacher on labels, in a run folder."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from pytorch_lightning import Trainer

from distill.data.judged_pairs import PairsData
from distill.files.device import computing_on
from distill.files.progress import log
from distill.modules.start import read_checkpoint
from distill.modules.teacher import TeacherModule
from distill.training.checks import check_length, check_loop
from distill.training.fit import (
    check_checkpoint,
    claim_on_first_rank,
    find_checkpoint,
    fit_to_end,
    load_best_weights,
    rewind_logs,
    track_run,
)
from distill.training.joined_ranks import refuse_on_all_ranks
from distill.training.run_folder import RunFolder


def train_teacher(
    trainer: Trainer, module: TeacherModule, data: PairsData, run: RunFolder, config: dict[str, Any], ckpt_path: str | None
) -> None:
    """Trains a dual encoder, a cross encoder or a generator of queries on labels; a second call continues an unfinished run.

    All checks come before the first change of the run folder. The arguments are those of `train_student`.
    """
    check_length(trainer)
    checkpoint = find_checkpoint(run, ckpt_path)
    with computing_on(trainer.strategy.root_device), ExitStack() as lock:
        with refuse_on_all_ranks(trainer):
            if ckpt_path:  # which may be on one machine only
                read_checkpoint(ckpt_path)
            data.setup("fit")
            module.prepare(run.start if run.start.exists() else None)
            data.connect(module)
            if not run.finished:
                steps = check_loop(trainer, module, data)
                check_checkpoint(checkpoint, module, trainer, run, steps)
            fingerprints = {"texts": data.fingerprints(), "start": {"weights": module.fingerprint()}}
            lock.enter_context(claim_on_first_rank(trainer, run, config, fingerprints, data.removed_from_train))
        if trainer.is_global_zero and not run.start.exists():
            module.save(run.start)  # a checkpoint has only weights, and the model of start_from may move or change
        if run.finished:
            return log.info(f"{run.teacher}: done before")
        step = rewind_logs(checkpoint, trainer)
        if trainer.is_global_zero:
            precedence = f"its weights and its place in the data win over model.start_from: {module.start_from}"
            log.info(precedence if checkpoint else module.origin)
        with track_run(trainer, module, run, config, step):
            fit_to_end(trainer, module, data, checkpoint)
        if trainer.is_global_zero:
            weights = load_best_weights(trainer, module, run)
            module.cpu().save(run.teacher)
            log.info(f"{run.teacher}: the teacher of {weights}; next: distill {module.next_verb} {run.teacher}")
