"""Trains a student, in a run folder."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from distill.callbacks.tracking import log_lineage
from distill.data.datamodule import RetrievalData
from distill.data.known_queries import sample_known_queries
from distill.encoders.vocabulary import vocabulary_fingerprint
from distill.files.device import computing_on
from distill.files.progress import log
from distill.modules.batch_defaults import settle_batch
from distill.modules.start import VOCABULARY, read_checkpoint, refuse_other_tokens
from distill.modules.student import StudentModule
from distill.records import BadInput
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


def train_student(
    trainer: Trainer, module: StudentModule, data: RetrievalData, run: RunFolder, config: dict[str, Any], ckpt_path: str | None
) -> None:
    """Trains a student to embed in its teacher's space; a second call continues an unfinished run.

    All checks come before the first change of the run folder.

    Args:
        trainer: trainer with the settings of `make_trainer_settings`.
        module: the student and its losses.
        data: the texts and the teacher's vectors.
        run: the folder to write.
        config: the whole configuration as plain values, which config.yaml records.
        ckpt_path: a checkpoint to continue from instead of the run's own last one.
    """
    check_length(trainer)
    checkpoint = find_checkpoint(run, ckpt_path)
    if module.has_towers and checkpoint is None and not run.finished:
        raise BadInput(f"{run.path}: this module was trained before: make a new StudentModule for a new run")
    with computing_on(trainer.strategy.root_device), ExitStack() as lock:
        with refuse_on_all_ranks(trainer):
            if ckpt_path:  # which may be on one machine only
                read_checkpoint(ckpt_path)
            data.setup("fit")
            module.prepare(data, load_start=checkpoint is None)
            chosen = settle_batch(module, data, trainer, run.settings() if run.run_record.exists() else None)
            config = with_chosen_numbers(config, data.batch_size, module.learning_rate)
            if not run.finished:
                steps = check_loop(trainer, module, data)
                if checkpoint:
                    refuse_other_tokens(checkpoint, module.encoder)
                check_checkpoint(checkpoint, module, trainer, run, steps)
            lock.enter_context(claim_on_first_rank(trainer, run, config, _list_inputs(module, data), data.removed_from_train))
        if run.finished:
            return log.info(f"{run.student}: done before")
        step = rewind_logs(checkpoint, trainer)
        if chosen and trainer.is_global_zero:
            log.info(chosen)
        if module.start_from and trainer.is_global_zero:
            log.info(_describe_start(module.start_from, checkpoint))
        with track_run(trainer, module, run, config, step):
            fit_to_end(trainer, module, data, checkpoint)
            if trainer.is_global_zero:
                weights = load_best_weights(trainer, module, run)
                if data.fresh is None:  # what no epoch has again cannot be sampled
                    sample_known_queries(data).save(run.known_queries)
                module.save(run.student)
                log_lineage(trainer.loggers, run.student, Path(data.store_folder), run.record()["inputs"]["vectors"])
    if trainer.is_global_zero:
        log.info(f"{run.student}: the student of {weights}")


def with_chosen_numbers(config: dict[str, Any], batch_size: int, learning_rate: float) -> dict[str, Any]:
    """The configuration with numbers in place of None, so that the run's files name them.

    >>> with_chosen_numbers({"data": {"batch_size": None}, "model": {"learning_rate": 0.1}}, 64, 0.001)
    {'data': {'batch_size': 64}, 'model': {'learning_rate': 0.1}}
    """
    chosen: dict[str, dict[str, Any]] = {"data": {"batch_size": batch_size}, "model": {"learning_rate": learning_rate}}
    filled = {
        part: {name: value for name, value in values.items() if config[part].get(name, "absent") is None} for part, values in chosen.items()
    }
    return {**config, **{part: {**config[part], **values} for part, values in filled.items()}}


def _list_inputs(module: StudentModule, data: RetrievalData) -> dict[str, dict[str, str]]:
    """Lists what a run was made from beside its configuration, by kind, so that it is not continued with something else."""
    inputs = {"vectors": data.vector_fingerprints()}
    if module.dropped_prompt:  # as of a run of a release whose students read it
        inputs["dropped_prompt"] = {"query": module.dropped_prompt}
    if module.kept_vocabulary:
        inputs[VOCABULARY] = {"student": module.kept_vocabulary, "tokens": vocabulary_fingerprint(module.encoder)}
    return inputs


def _describe_start(start_from: str, checkpoint: str | None) -> str:
    if checkpoint:
        return f"its weights win over model.start_from: {start_from}"
    return f"begins from the weights of {start_from}; everything else as model says"
