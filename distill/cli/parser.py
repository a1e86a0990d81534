"""From command line and YAML to a function's arguments: its signature is the schema, checked before anything heavy starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, get_loader, set_loader
from pytorch_lightning.cli import LightningArgumentParser

from distill.cli.arguments import complete_switches, move_files_first, replace_class_names
from distill.cli.messages import find_misspelt_option, list_classes, one_line, with_suggestion
from distill.files.yaml_files import refuse_too_many_values
from distill.records import BadInput

# arguments without a flag that are of any number, or stand beside options that must be given
POSITIONAL: dict[str, dict[str, Any]] = {
    "runs": {"nargs": "+", "help": "run folders that `distill evaluate` has measured; several are compared"},
    "file": {"help": "YAML in the form of wandb's sweeps: command, method (grid or random), metric, parameters; nothing is sent to wandb"},
}
# options with one value or more, `--suite data/one data/two`
SEVERAL: dict[str, dict[str, Any]] = {
    "suite": {
        "nargs": "+",
        "default": None,
        "help": "collections of other domains to measure on too: folders in BEIR layout, or of such folders",
    }
}
OPTIONAL_RUN: dict[str, Any] = {"nargs": "?", "default": None, "help": "run folder, as `distill train` leaves it"}
# the end of the message where an argument is missing whose place another one has taken
MISSING = {"query": 'the run folder comes first: distill search runs/mine "how long does a cold last"'}
CONFIG_HELP = "YAML file with any of the options below; may be repeated, the later one wins"


_load_yaml = get_loader("yaml")


def load_yaml(text: str) -> Any:
    """Loads a value of the command line or a configuration file; refuses one whose aliases stand for too much."""
    refuse_too_many_values(text)
    return _load_yaml(text)


set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))


def call_function(verb: str, function: Callable[..., Any], arguments: list[str]) -> Any:
    """Calls `function` with the arguments after the verb; raises BadInput for what its signature refuses."""
    parser = OneLineParser(prog=f"distill {verb}", description=first_line(function), allow_abbrev=False)
    parser.add_argument("-c", "--config", action=ConfigFile, help=CONFIG_HELP)
    # what a verb works on is named first, without a flag: `distill evaluate runs/quickstart`, `distill report runs/one runs/two`
    parameters = inspect.signature(function).parameters
    positional = {name: POSITIONAL[name] for name in POSITIONAL if name in parameters}
    if "run" in parameters and parameters["run"].default is None:
        positional["run"] = OPTIONAL_RUN
    for name, options in positional.items():
        parser.add_argument(name, type=str, **options)
    several = {name: SEVERAL[name] for name in SEVERAL if name in parameters}
    for name, options in several.items():
        parser.add_argument(f"--{name}", type=str, **options)
    skip: set[str | int] = {*positional, *several}
    parser.add_function_arguments(function, as_positional="run" in parameters, fail_untyped=True, skip=skip)
    switches = set()
    for action in parser._actions:
        if action.default is False:  # `--router` alone is `--router true`
            action.nargs, action.const = "?", True
            switches.add(f"--{action.dest}")
    config = parser.instantiate_classes(parser.parse_args(move_files_first(complete_switches(arguments, switches))))
    config.pop("config", None)
    return function(**config)


def first_line(function: Callable[..., Any]) -> str:
    """The first line of a function's docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


class ConfigFile(ActionConfigFile):
    """A configuration file whose errors name it."""

    @staticmethod
    def apply_config(parser: ArgumentParser, cfg: Any, dest: str, value: str) -> None:
        try:
            ActionConfigFile.apply_config(parser, cfg, dest, value)
        except BadInput as error:
            raise BadInput(f"{value}: {error}") from None
        except (ValueError, RecursionError):
            raise BadInput(f"{value}: not a text file of YAML: save it as UTF-8, nested less deeply, its numbers of fewer digits") from None


class _OneLine:
    """Makes a parser's errors end in one line and exit code 2, not in a page of usage."""

    def error(self: Any, message: str, ex: BaseException | None = None) -> NoReturn:
        message = with_suggestion(message, self.format_help)
        if not self.exit_on_error:  # the parser of a class within ours: the outer one adds where that is
            super().error(message, ex)  # type: ignore[misc]
        while ex is not None:
            if isinstance(ex, BadInput):
                raise ex
            ex = ex.__cause__ or ex.__context__
        missing = message.rpartition("required: ")[2]
        hint = f": {MISSING[missing]}" if missing in MISSING else ""
        raise BadInput(one_line(message, self._list_classes) + hint)

    def _list_classes(self: Any) -> dict[str, list[str]]:
        return list_classes(self.format_help())

    def parse_args(self: Any, args: Any = None, *rest: Any, **more: Any) -> Any:
        """Parses; an option that does not exist is refused before other errors, which may follow from it."""
        try:
            if self.exit_on_error:
                args = replace_class_names(args, self._list_classes)
            return super().parse_args(args, *rest, **more)  # type: ignore[misc]
        except BadInput as error:
            unknown = find_misspelt_option(list(args), self.format_help()) if self.exit_on_error else None
            if unknown is not None:
                raise BadInput(unknown) from None
            raise error


class OneLineParser(_OneLine, ArgumentParser):
    """jsonargparse's parser with errors of one line."""


class OneLineTrainParser(_OneLine, LightningArgumentParser):
    """Lightning's parser with errors of one line."""

    def format_help(self, *args: Any) -> str:
        """What is ours comes first, the trainer's options, which are Lightning's, last."""
        self._action_groups = sorted(self._action_groups, key=lambda group: any(it.dest == "trainer" for it in group._group_actions))
        return super().format_help(*args)
