"""`distill train`: trains a student into the embedding space of its teacher."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from distill.callbacks.console import ABROAD
from distill.callbacks.retrieval_eval import RetrievalEval
from distill.callbacks.run_log import read_lines
from distill.callbacks.tracking import Tracking, check_installed
from distill.cli.arguments import CONFIG_OPTIONS, move_files_first, replace_group_names, replace_loss_names, replace_short_options
from distill.cli.parser import CONFIG_HELP, ConfigFile, OneLineTrainParser, first_line
from distill.data.base import check_seed
from distill.data.datamodule import RetrievalData
from distill.encoders.static_student import StaticStudent
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher
from distill.files.progress import log
from distill.modules.student import StudentModule
from distill.records import BadInput, one_line
from distill.training.run_folder import RunFolder
from distill.training.settings import CHECKPOINT_EVERY_N_STEPS, TRAINER_DEFAULTS, make_trainer_settings, quiet_lightning
from distill.training.train import train_student
from distill.training.trainer_options import refuse_trainer_errors

TRACKING_HELP = "where to log beside metrics.jsonl; csv is written at the end; only wandb sends data over the network"
STUDENTS = (StudentFromTeacher, StudentFromBackbone, StaticStudent)  # imported here, so that --model.student knows their names
SHORT_OPTIONS = {"--layers": "--model.student.layers", "--losses": "--model.losses"}
NO_OBJECT = "Does not validate against any of the Union subtypes"  # how the parser begins an error about an object
TABLE_ROWS = ("ndcg@10", "retention_ndcg@10", "overlap@10", "cosine", *ABROAD, "log_likelihood")


def main(arguments: list[str]) -> None:
    """Runs the verb."""
    short = ", ".join(f"{option} is short for {long}" for option, long in SHORT_OPTIONS.items())
    arguments = replace_short_options(arguments, SHORT_OPTIONS)
    cli, config = parse(TrainCLI, StudentModule, RetrievalData, arguments, "train", f"{first_line(train_student)} {short}.")
    run = RunFolder(Path(cli.config.out))
    train_student(cli.trainer, cli.model, cli.datamodule, run, config, cli.config.ckpt_path)
    show_curves(run)
    if cli.trainer.is_global_zero:
        log.info(f"next: distill evaluate {run.path}{_split_option(cli.datamodule)}")


def _split_option(data: RetrievalData) -> str:
    """The option that `distill evaluate` needs where the texts have no split called test."""
    return "" if "test" in data.source.splits() else f" --split {data.dev_split}"


def show_curves(run: RunFolder) -> None:
    """Prints a table of the last and best values on dev, where somebody looks."""
    if sys.stdout is None or not sys.stdout.isatty() or not run.metrics.exists():
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("dev", "last", "best")
    lines = read_lines(run.metrics)
    for name in TABLE_ROWS:
        values = [line[f"dev/{name}"] for line in lines if f"dev/{name}" in line]
        if values:
            table.add_row(name, f"{values[-1]:.4f}", f"{max(values):.4f}")
    Console().print(table)


def parse(
    kind: type[TrainCLI], module: Any, data: Any, arguments: list[str], verb: str, description: str, **options: Any
) -> tuple[TrainCLI, dict[str, Any]]:
    """The objects that the arguments describe, and the whole configuration as plain values."""
    quiet_lightning()
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # `args` is given, as the verb stands before them in sys.argv
    files_first = move_files_first(arguments, (*CONFIG_OPTIONS, *kind.groups))
    with refuse_objects_not_made():
        cli = kind(
            module,
            data,
            run=False,
            args=replace_loss_names(replace_group_names(files_first, kind.groups)),
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_class=OneLineTrainParser,
            parser_kwargs={
                "prog": f"distill {verb}",
                "usage": f"distill {verb} [--config FILE ...] --out FOLDER [--OPTION VALUE ...]",
                "description": description,
                "allow_abbrev": False,
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            **options,
        )
        return cli, yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))


@contextmanager
def refuse_objects_not_made() -> Iterator[None]:
    """Reports in one line why the class of an object, such as a callback, refused its arguments, in the words of that class."""
    try:
        yield
    except ValueError as error:
        reason = error.__cause__ or error.__context__
        if reason is None or not str(error).startswith(NO_OBJECT):
            raise
        if isinstance(reason, yaml.YAMLError):  # a default that is an object
            raise BadInput(f"trainer: {one_line(reason)}: config.yaml cannot store it: give the argument as text") from error
        raise BadInput(f"trainer: {one_line(reason, 1000)}") from error


class TrainCLI(LightningCLI):
    """`model`, `data` and `trainer` groups, plus the run folder; everything else is Lightning's."""

    groups: ClassVar = {"--model": "student", "--data": "data", "--trainer": "trainer"}  # the folder in conf/ of each group's files
    # as in StudentModule, and repeated here so that an option can change a part of one
    defaults: ClassVar[dict[str, Any]] = {
        "model.student": {"class_path": "distill.encoders.students.StudentFromTeacher"},
        "model.losses": {"query_matching": {"class_path": "distill.losses.QueryMatching"}},
    }

    def make_evaluation(self) -> Callback:
        """The callback that measures on dev."""
        return RetrievalEval()

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = self.parser_class(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help=CONFIG_HELP)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, required=True, help="run folder to write; the same command goes on with an unfinished run")
        parser.add_argument("--ckpt_path", type=str, default=None, help="checkpoint to continue from instead of the run's own last one")
        parser.add_argument("--tracking", type=Tracking, default="none", help=TRACKING_HELP)
        steps = "steps between two writings of last.ckpt"
        parser.add_argument("--checkpoint_every_n_steps", type=int, default=CHECKPOINT_EVERY_N_STEPS, help=steps)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=check_seed)
        parser.set_defaults(self.defaults)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        check_installed(self.config.tracking)
        out, options = Path(self.config.out), self.config_init["trainer"]
        settings = make_trainer_settings(out, options, self.config.checkpoint_every_n_steps, self.make_evaluation())
        with refuse_trainer_errors():
            return super().instantiate_trainer(**settings, **kwargs)
