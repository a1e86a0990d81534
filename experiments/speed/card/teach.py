"""Steps of fine-tuning a dual encoder and a cross encoder of BERT-base's shape, with Lightning's Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from card.device import Card
from card.report import Report
from card.training import Stopwatch, bound_steps
from card.world import World
from distill.data.judged_pairs import PairsData
from distill.modules.cross_teacher import CrossTeacher
from distill.modules.dual_teacher import DualTeacher
from distill.modules.teacher import TeacherModule
from distill.teachers.negatives import RandomNegatives
from distill.training.settings import TRAINER_DEFAULTS, default_precision, quiet_lightning

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}


def teach(world: World, kind: str, start: Path, watch: Stopwatch, **options: Any) -> None:
    """Trains as many steps as the stopwatch needs, each query with a positive and three random documents."""
    quiet_lightning()
    data = PairsData(world.source(), RandomNegatives(), first_stage=str(world.store), batch_size=world.sizes.teach_batch)
    module: TeacherModule = DualTeacher(str(start)) if kind == "DualTeacher" else CrossTeacher(str(start), "dual_pooling")
    settings = {**TRAINER_DEFAULTS, **QUIET, "accelerator": "gpu", "devices": 1, "precision": default_precision("gpu")}
    settings |= {"max_epochs": -1, "max_steps": watch.needed, "callbacks": [watch], "default_root_dir": world.folder}
    Trainer(**{**settings, **options}).fit(module, datamodule=data)


def measure(card: Card, world: World, report: Report) -> None:
    sizes, shape = world.sizes, world.sizes.encoder
    for kind in ("DualTeacher", "CrossTeacher"):
        watch = Stopwatch(sizes.warm_up, sizes.teach_steps)
        teach(world, kind, world.encoder, watch)
        pairs = sizes.teach_batch * 4  # a positive and three negatives
        bound = pairs * bound_steps(card, shape, shape.layers, watch.batches)
        rate = pairs * sizes.teach_steps / watch.seconds
        report.add("teach", kind, f"batch {sizes.teach_batch}", rate, "pairs/s", bound=bound, bound_is="products of the step's own shape")
