"""`distill teach`: trains or fine-tunes a teacher on labels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser

from distill.callbacks.teacher_eval import TeacherEval
from distill.cli.parser import first_line
from distill.cli.train import TrainCLI, parse, show_curves
from distill.data.judged_pairs import PairsData
from distill.modules.cross_teacher import CrossTeacher
from distill.modules.dual_teacher import DualTeacher
from distill.modules.query_generator import QueryGenerator
from distill.modules.teacher import TeacherModule
from distill.records import BadInput
from distill.training.run_folder import RunFolder
from distill.training.teach import train_teacher

TEACHERS = (CrossTeacher, DualTeacher, QueryGenerator)  # --model knows these by name once they are imported
# what `--task query-generation` stands for
WRITING = ["--model", "QueryGenerator", "--data.negatives", "RandomNegatives", "--data.negatives_per_query", "0"]


def main(arguments: list[str]) -> None:
    """Runs the verb."""
    if "--task=query-generation" in arguments or ("--task", "query-generation") in pairwise(arguments):
        arguments = [*WRITING, *arguments]  # an option that is given beside it wins
    cli, config = parse(TeachCLI, TeacherModule, PairsData, arguments, "teach", first_line(train_teacher), subclass_mode_model=True)
    if cli.config.task and not isinstance(cli.model, QueryGenerator):
        raise BadInput(f"task: {cli.config.task}: in a file it comes too late, and --model may not contradict it: give --task alone")
    run = RunFolder(Path(cli.config.out), "teacher")
    train_teacher(cli.trainer, cli.model, cli.datamodule, run, config, cli.config.ckpt_path)
    show_curves(run)


class TeachCLI(TrainCLI):
    """The same for a teacher; `model` names its class."""

    groups: ClassVar = {**TrainCLI.groups, "--model": "teacher"}
    defaults: ClassVar[dict[str, Any]] = {}

    def make_evaluation(self) -> Callback:
        teacher: Any = self.model
        return Callback() if teacher.dev_measure == "likelihood" else TeacherEval()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--task", type=Literal["query-generation"] | None, default=None, help=f"short for {' '.join(WRITING)}")
