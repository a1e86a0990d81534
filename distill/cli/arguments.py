"""From command line and YAML to a verb's arguments: a verb's signature is its schema, checked before anything heavy starts."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, set_parsing_settings
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from distill.callbacks.tracking import Tracking, check_installed
from distill.cli.refusals import explain_unknown_option, find_misspelt_option, one_line
from distill.generate import Generator
from distill.losses import Loss
from distill.records import BadInput

# jsonargparse takes a dataclass for a fixed set of keys, not for a choice of class
set_parsing_settings(subclasses_enabled=[Loss, Generator])

# what `teach --task query-generation` stands for
WRITING = ["--model", "QueryGenerator", "--data.negatives", "RandomNegatives", "--data.negatives_per_query", "0"]
# arguments without a flag beside options that must be given, or of any number
POSITIONAL: dict[str, dict[str, Any]] = {
    "runs": {"nargs": "+", "help": "run folders that `distill evaluate` has measured; several are compared"},
    "file": {"help": "YAML in the form of wandb's sweeps: command, method (grid or random), metric, parameters; nothing is sent to wandb"},
}
CONFIG_HELP = "YAML file with any of the options below; may be repeated, the later one wins"


def call_verb(verb: str, target: str, arguments: list[str]) -> None:
    """Runs `module:function` with the arguments after the verb; raises BadInput for what its signature refuses."""
    if verb == "train":
        return _train(arguments)
    if verb == "teach":
        return _teach(arguments)
    module, name = target.split(":")
    function = getattr(importlib.import_module(module), name)
    parser = OneLineParser(prog=f"distill {verb}", description=first_line(function), allow_abbrev=False)
    parser.add_argument("-c", "--config", action=ConfigFile, help=CONFIG_HELP)
    # what a verb works on is named first, without a flag: `distill evaluate runs/quickstart`, `distill report runs/one runs/two`
    parameters = inspect.signature(function).parameters
    named = {name: POSITIONAL[name] for name in POSITIONAL if name in parameters}
    for name, options in named.items():
        parser.add_argument(name, type=str, **options)
    parser.add_function_arguments(function, as_positional="run" in parameters, fail_untyped=True, skip=set(named))
    config = parser.instantiate_classes(parser.parse_args(arguments))
    config.pop("config", None)
    function(**config)


def _train(arguments: list[str]) -> None:
    from distill.data.datamodule import RetrievalData
    from distill.modules.student import StudentModule
    from distill.training.run_folder import RunFolder
    from distill.training.train import train

    cli, config = _parsed(TrainCLI, StudentModule, RetrievalData, arguments, "train", first_line(train))
    train(cli.trainer, cli.model, cli.datamodule, RunFolder(Path(cli.config.out)), config, cli.config.ckpt_path)


def _teach(arguments: list[str]) -> None:
    from distill.data.judged_pairs import PairsData
    from distill.modules.cross_teacher import CrossTeacher
    from distill.modules.dual_teacher import DualTeacher
    from distill.modules.query_generator import QueryGenerator
    from distill.modules.teacher import TeacherModule
    from distill.training.run_folder import RunFolder
    from distill.training.teach import teach

    # known by name once they are imported
    assert all(issubclass(kind, TeacherModule) for kind in (CrossTeacher, DualTeacher, QueryGenerator))
    if "--task=query-generation" in arguments or ("--task", "query-generation") in pairwise(arguments):
        arguments = [*WRITING, *arguments]  # what else is given wins
    cli, config = _parsed(TeachCLI, TeacherModule, PairsData, arguments, "teach", first_line(teach), subclass_mode_model=True)
    if cli.config.task and not isinstance(cli.model, QueryGenerator):
        raise BadInput(f"task: {cli.config.task}: in a file it comes too late, and --model may not contradict it: give --task alone")
    teach(cli.trainer, cli.model, cli.datamodule, RunFolder(Path(cli.config.out), "teacher"), config, cli.config.ckpt_path)


def _parsed(
    kind: type[TrainCLI], module: Any, data: Any, arguments: list[str], verb: str, text: str, **more: Any
) -> tuple[TrainCLI, dict[str, Any]]:
    """The objects that the arguments describe, and the whole configuration as plain values."""
    from distill.training.train import TRAINER_DEFAULTS, quiet_lightning

    quiet_lightning()
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")  # the verb stands before them on the command line
    cli = kind(
        module,
        data,
        run=False,
        args=arguments,
        save_config_callback=None,
        seed_everything_default=0,
        trainer_defaults=TRAINER_DEFAULTS,
        parser_class=OneLineTrainParser,
        parser_kwargs={
            "prog": f"distill {verb}",
            "usage": f"distill {verb} [--config FILE ...] --out FOLDER [--OPTION VALUE ...]",
            "description": text,
            "allow_abbrev": False,
        },
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        **more,
    )
    return cli, yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))


def first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


class ConfigFile(ActionConfigFile):
    """Errors in a file name the file."""

    @staticmethod
    def apply_config(parser: ArgumentParser, cfg: Any, dest: str, value: str) -> None:
        try:
            ActionConfigFile.apply_config(parser, cfg, dest, value)
        except BadInput as error:
            raise BadInput(f"{value}: {error}") from None
        except (ValueError, RecursionError):
            raise BadInput(f"{value}: not a text file of YAML: save it as UTF-8, nested less deeply, its numbers of fewer digits") from None


class _OneLine:
    """Errors end in one line and exit code 2, not in a page of usage."""

    def error(self: Any, message: str, ex: BaseException | None = None) -> NoReturn:
        message = explain_unknown_option(message, self.format_help)
        if not self.exit_on_error:  # the parser of a class within ours: the outer one adds where that is
            super().error(message, ex)  # type: ignore[misc]
        while ex is not None:
            if isinstance(ex, BadInput):
                raise ex
            ex = ex.__cause__ or ex.__context__
        raise BadInput(one_line(message))

    def parse_args(self: Any, args: Any = None, *rest: Any, **more: Any) -> Any:
        """An option that does not exist is said first: other errors may follow from it."""
        try:
            return super().parse_args(args, *rest, **more)  # type: ignore[misc]
        except BadInput as error:
            if self.exit_on_error and (unknown := find_misspelt_option(list(args), self.format_help())):
                raise BadInput(unknown) from None
            raise error


class OneLineParser(_OneLine, ArgumentParser):
    pass


class OneLineTrainParser(_OneLine, LightningArgumentParser):
    def format_help(self, *args: Any) -> str:
        """What is ours comes first, the trainer's options, which are Lightning's, last."""
        self._action_groups = sorted(self._action_groups, key=lambda group: any(it.dest == "trainer" for it in group._group_actions))
        return super().format_help(*args)


class TrainCLI(LightningCLI):
    """`model`, `data` and `trainer` groups, plus the run folder; everything else is Lightning's."""

    def evaluation(self) -> Callback:
        """What measures on dev."""
        from distill.callbacks.retrieval_eval import RetrievalEval

        return RetrievalEval()

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = self.parser_class(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help=CONFIG_HELP)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str, required=True, help="run folder to write; the same command goes on with an unfinished run")
        parser.add_argument("--ckpt_path", type=str, default=None, help="checkpoint to continue from instead of the run's own last one")
        kinds = "beside metrics.jsonl, to watch the run by; csv is written at the end, only wandb sends anything anywhere"
        parser.add_argument("--tracking", type=Tracking, default="none", help=kinds)
        parser.add_argument("--checkpoint_every_n_steps", type=int, default=500, help="steps between two writings of last.ckpt")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        from distill.training.train import make_trainer_settings

        check_installed(self.config.tracking)
        given = (Path(self.config.out), self.config_init["trainer"], self.config.checkpoint_every_n_steps)
        settings = make_trainer_settings(*given, self.evaluation())
        try:
            return super().instantiate_trainer(**settings, **kwargs)
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise BadInput(f"trainer: {' '.join(str(error).split())}") from None


class TeachCLI(TrainCLI):
    """The same for a teacher; `model` names its class."""

    def evaluation(self) -> Callback:
        from distill.callbacks.teacher_eval import TeacherEval

        teacher: Any = self.model
        return Callback() if teacher.writes else TeacherEval()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--task", type=Literal["query-generation"] | None, default=None, help=f"short for {' '.join(WRITING)}")
