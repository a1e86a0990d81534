"""`distill teach`: trains or fine-tunes a teacher on labels and leaves a run folder."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Trainer

from distill.data.judged_pairs import PairsData
from distill.modules.start import read_checkpoint
from distill.modules.teacher import TeacherModule
from distill.training.run_folder import RunFolder
from distill.training.train import check_length, fit_to_end, load_best_weights, rewind_logs, track_run


def teach(trainer: Trainer, module: TeacherModule, data: PairsData, run: RunFolder, config: dict[str, Any], ckpt_path: str | None) -> None:
    """Trains a dual or a cross encoder, or a generator of queries, on labels; the same command goes on with an unfinished run.

    Everything that can be refused is refused before the run folder is touched.
    """
    check_length(trainer)
    if ckpt_path:
        read_checkpoint(ckpt_path)
    data.setup("fit")
    module.prepare(run.start if run.start.exists() else None)
    data.prepare_for(module)
    if trainer.is_global_zero:
        made_from = {"texts": data.fingerprints(), "start": {"weights": module.fingerprint()}}
        _lock = run.claim(config, str(trainer.precision), made_from, data.removed_from_train)
        if not run.start.exists():
            module.save(run.start)  # the base may move or change, and a checkpoint is weights alone
    if run.finished:
        return print(f"{run.teacher}: done before")
    checkpoint = ckpt_path or (str(run.last_checkpoint) if run.last_checkpoint.exists() else None)
    step = rewind_logs(checkpoint, trainer)
    if trainer.is_global_zero:
        print(f"its weights and its place in the data win over model.start_from: {module.start_from}" if checkpoint else module.origin)
    with track_run(trainer, module, run, config, step):
        fit_to_end(trainer, module, data, checkpoint)
    if trainer.is_global_zero:
        kept = load_best_weights(module, run)
        module.cpu().save(run.teacher)
        following = f"distill {module.next_verb} {run.teacher}"
        print(f"{run.teacher}: the teacher of {kept}; next: {following}")
