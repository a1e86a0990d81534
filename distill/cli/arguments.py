"""Rewrites the words after a verb before they are parsed: short names become what they stand for, and files come first."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from distill.files.configs import Configurable
from distill.losses import Loss
from distill.records import BadInput

CONF = Path(__file__).parents[1] / "conf"  # in a checkout a link to conf/ at its top, in a wheel the files themselves
CONFIG_OPTIONS = ("--config", "-c")
CLASS_NAMES = re.compile(r"[A-Za-z_][\w.]*(,[A-Za-z_][\w.]*)*")
FILE_NAME = re.compile(r"[^\s{}\[\]:,]+")  # anything else is a mapping, written out on the command line
WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # within a name in CamelCase


def move_files_first(arguments: Sequence[str], options: Collection[str] = CONFIG_OPTIONS) -> list[str]:
    """Moves the options that name files before all others, so that a file undoes no option, wherever the two stand.

    >>> move_files_first(["runs/a", "--trainer.max_epochs", "3", "--config", "a.yaml", "--config=b.yaml"])
    ['--config', 'a.yaml', '--config=b.yaml', 'runs/a', '--trainer.max_epochs', '3']
    """
    files: list[str] = []
    others: list[str] = []
    end, place = _count_options(arguments), 0
    while place < end:
        length = 2 if arguments[place] in options else 1
        names_file = arguments[place].partition("=")[0] in options or _is_joined(arguments[place])
        (files if names_file else others).extend(arguments[place : place + length])
        place += length
    return [*files, *others, *arguments[place:]]


def complete_switches(arguments: Sequence[str], switches: Collection[str]) -> list[str]:
    """Gives each option that is true or false, and stands alone, its value, so that it does not take the next word.

    >>> complete_switches(["--trust", "runs/a", "--router", "false"], {"--trust", "--router"})
    ['--trust=true', 'runs/a', '--router', 'false']
    """
    end = _count_options(arguments)
    completed = []
    for place, word in enumerate(arguments[:end]):
        value = arguments[place + 1].lower() if place + 1 < end else ""
        stands_alone = word in switches and value not in ("true", "false")
        completed.append(f"{word}=true" if stands_alone else word)
    return [*completed, *arguments[end:]]


def _is_joined(word: str) -> bool:
    """Whether a word is `-c` and its file in one, as in `-ca.yaml`."""
    return len(word) > 2 and word.startswith("-c")


def _count_options(arguments: Sequence[str]) -> int:
    """The number of words before `--`, after which there are no options."""
    return arguments.index("--") if "--" in arguments else len(arguments)


def map_values(arguments: Sequence[str], change: Callable[[str, str], str]) -> list[str]:
    """Replaces the value of each option by `change(option, value)`, in `--option value` and in `--option=value`.

    >>> map_values(["runs/a", "--k", "5", "--split=dev"], lambda option, value: f"{option}-{value}")
    ['runs/a', '--k', '--k-5', '--split=--split-dev']
    """
    changed = list(arguments)
    end = _count_options(arguments)
    for place in range(end):
        option, equals, value = changed[place].partition("=")
        if not option.startswith("--"):
            continue
        if equals:
            changed[place] = f"{option}={change(option, value)}"
        elif place + 1 < end and not changed[place + 1].startswith("--"):
            changed[place + 1] = change(option, changed[place + 1])
    return changed


def replace_short_options(arguments: Sequence[str], options: Mapping[str, str]) -> list[str]:
    """Replaces options by those that they are short for.

    >>> replace_short_options(["--layers", "3", "--losses=OneHot"], {"--layers": "--model.student.layers", "--losses": "--model.losses"})
    ['--model.student.layers', '3', '--model.losses=OneHot']
    """
    replaced = []
    for word in arguments:
        option, equals, value = word.partition("=")
        replaced.append(f"{options.get(option, option)}{equals}{value}")
    return replaced


def replace_group_names(arguments: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    """Replaces the names of files in conf/ by their paths, so that `--model two_layers` works in every folder.

    Args:
        arguments: the words after the verb.
        groups: the folder in conf/ of each option that takes such a name, e.g. {"--model": "student"}.
    """
    return map_values(arguments, lambda option, value: find_group_file(option, groups[option], value) if option in groups else value)


def find_group_file(option: str, group: str, value: str) -> str:
    """Returns the path of the YAML file that `value` names: a path, or the name of a file in conf/GROUP.

    A mapping that is written out, and for a teacher the name of its class, is returned as it is.

    >>> find_group_file("--trainer", "trainer", "cp")
    Traceback (most recent call last):
    distill.records.BadInput: trainer: cp: neither a file nor a name in conf/trainer: did you mean cpu?
    """
    if not FILE_NAME.fullmatch(value) or Path(value).is_file():
        return value
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    if value in names:
        return str(CONF / group / f"{value}.yaml")
    is_path = os.sep in value or value.endswith((".yaml", ".yml", ".json"))
    if group == "teacher" and not is_path:
        return value
    reason = "no such file" if is_path else f"neither a file nor a name in conf/{group}"
    raise BadInput(f"{option.removeprefix('--')}: {value}: {reason}: {suggest(Path(value).stem, names)}")


def replace_loss_names(arguments: Sequence[str]) -> list[str]:
    """Replaces `--model.losses QueryMatching,MarginMSE` by the mapping that it stands for."""
    return map_values(arguments, lambda option, value: describe_losses(value) if option == "--model.losses" else value)


def describe_losses(names: str) -> str:
    """Describes losses of default settings as JSON; any other value of the option is returned as it is.

    >>> describe_losses("querymatching,MarginMSE")
    '{"query_matching": {"class_path": "QueryMatching"}, "margin_mse": {"class_path": "MarginMSE"}}'
    """
    if not CLASS_NAMES.fullmatch(names) or names == "null" or names.endswith((".yaml", ".yml", ".json")):
        return names
    known = class_names(Loss)
    losses = {}
    for name in names.split(","):
        path = name if "." in name else find_class_name(name, known)
        if path is None:
            raise BadInput(f"model.losses: there is no class {name!r}: {suggest(name, known)}")
        losses[WORD_START.sub("_", path.rpartition(".")[2]).lower()] = {"class_path": path}
    return json.dumps(losses)


def replace_class_names(arguments: Sequence[str], choices: Callable[[], Mapping[str, Collection[str]]]) -> list[str]:
    """Writes the names of classes as they are defined, so that `--source beir` is the source `Beir`.

    Args:
        arguments: the words after the verb.
        choices: returns the names of the classes that each option takes, by the option without its dashes. It is only called where a
            value may be such a name.
    """
    known = class_names(Configurable)

    def change(option: str, value: str) -> str:
        name = find_class_name(value, known)
        if name is None or name == value:
            return value
        return find_class_name(value, choices().get(option.removeprefix("--"), [])) or value

    return map_values(arguments, change)


def class_names(base: type) -> list[str]:
    """The names of all classes that derive from `base`, as far as they are imported, in order."""
    names: set[str] = set()
    waiting = [base]
    while waiting:
        derived: list[type] = waiting.pop().__subclasses__()
        names.update(kind.__name__ for kind in derived)
        waiting += derived
    return sorted(names)


def find_class_name(name: str, known: Iterable[str]) -> str | None:
    """Returns the one of `known` that is `name`, whatever the case of its letters; None where there is none.

    >>> find_class_name("msmarcotsv", ["Beir", "MsMarcoTsv"])
    'MsMarcoTsv'
    """
    return next((other for other in known if other.lower() == name.lower()), None)


def suggest(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: the nearest one that is known, or all of them.

    >>> suggest("biir", ["Beir", "MsMarcoTsv"]), suggest("x", ["Beir", "MsMarcoTsv"])
    ('did you mean Beir?', 'there are Beir, MsMarcoTsv')
    """
    by_lower_case = {other.lower(): other for other in known}
    nearest = get_close_matches(name.lower(), by_lower_case, n=1)
    return f"did you mean {by_lower_case[nearest[0]]}?" if nearest else f"there are {', '.join(known)}"
