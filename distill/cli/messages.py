"""The argument parser's errors in one line that names the key and, where a name is unknown, the nearest one that is known.

The parser's own words are kept where they are plain. Only three kinds of its remarks are reworded; one that no rule knows, as a later
release of the parser may have, passes through as it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from distill.cli.arguments import class_names, suggest
from distill.files.configs import Configurable

OPTION = re.compile(r"^ +(?:-\w[^-]*)?--([\w.]*\w)", re.MULTILINE)  # in a help text
QUOTED_NAME = re.compile(r"'([A-Za-z][\w.]*)'")
# where the parser was, from the outside in: a key, or the class that was to be made there
PLACES = re.compile(r"\s*Parser key \"([^\"]+)\"(?: element \d+)?:|\s*Problem with given class_path '[\w.]*?(\w+)':")
# a text is tried as the path of a YAML file too, which nobody meant
NOT_A_PATH = re.compile(r"\s*- Expected a path but .* either not accessible or invalid\n")
# where a class, a mapping of classes, or nothing is possible, the remark about nothing is left out
OR_NOTHING = re.compile(
    r"Does not validate against any of the Union subtypes\s+"
    r"Subtypes: \[(?:<class 'distill\.[\w.]+'>|dict\[str, distill\.[\w.]+\]), <class 'NoneType'>\]\s+"
    r"Errors:\s+- (.*?)\s+- Expected a <class 'NoneType'>(.*)",
    re.DOTALL,
)
TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping", "list": "a list", "str": "text"}


def one_line(message: str, classes: Callable[[], Mapping[str, Collection[str]]] = dict) -> str:
    """The keys of a parser's tree of remarks, then the remark.

    Args:
        message: what the parser says.
        classes: returns the names of the classes that each option takes; it is only called where a class is unknown.

    >>> one_line('Parser key "data.batch_size":\\n  Expected a <class \\'int\\'>. Got value: many')
    "data.batch_size: 'many' is not a whole number"
    >>> one_line("Something that no rule knows\\n  about a value")
    'Something that no rule knows about a value'
    """
    remarks = OR_NOTHING.sub(_without_nothing, NOT_A_PATH.sub("\n- ", message))
    places = list(dict.fromkeys(key or kind for key, kind in PLACES.findall(remarks)))
    remark = " ".join(PLACES.sub(" ", remarks).split()).lstrip("- ")
    return ": ".join([*places, _reword(remark, places, classes)])


def _without_nothing(remark: re.Match[str]) -> str:
    lacks_value = remark[1].startswith("Expected a <class") and "value:" not in remark[1]
    return remark[1] + remark[2] if lacks_value else remark[1]


def _reword(remark: str, places: Sequence[str], classes: Callable[[], Mapping[str, Collection[str]]]) -> str:
    """A remark on a value's type, on an unknown class or on an abstract one, in plain words; any other as it is."""
    value, expected = re.search(r"(?:Got|Given) value: (.*?)(?: Given value.*| - Expected.*)?$", remark), _expected_values(remark)
    if value and expected:
        relation = "none of" if len(expected) > 1 else "not"
        return f"{value[1]!r} is {relation} {', '.join(expected)}"
    unknown_class = re.match(r"(?:Unable to load config '(.*)' - )?Expected a dot import path string: (\S+)$", remark)
    if unknown_class:
        file, name = unknown_class.groups()
        known = classes().get(places[-1], []) if len(places) == 1 or file else []
        start = f"{file}: " if file else ""
        return f"{start}there is no class {name!r}: {suggest(name, known or class_names(Configurable))}"
    if re.match(r"Expected an instantiatable class, but \S+ is abstract$", remark):
        return f"which one is not said: give --{places[0]} NAME before its options; --help lists the names"
    return remark


def _expected_values(remark: str) -> list[str]:
    """What the alternatives that the parser tried would have taken."""
    choices = [word.strip("' ") for match in re.findall(r"Expected a typing\.Literal\[(.*?)\]", remark) for word in match.split(",")]
    types = re.findall(r"Expected a <class '(?:[\w.]*\.)?(\w+)'>", remark)
    return list(dict.fromkeys([*choices, *(TYPES.get(name, name) for name in types if name != "NoneType")]))


def list_classes(help_text: str) -> dict[str, list[str]]:
    """The names of the classes that each option of a help text takes.

    >>> list_classes("  --source SOURCE  Texts. (type: <class 'TextSource'>, known subclasses: distill.texts.Beir,\\n    mine.Notes)")
    {'source': ['Beir', 'Notes']}
    """
    names = {}
    options = list(OPTION.finditer(help_text))
    ends = [option.start() for option in options[1:]] + [len(help_text)]
    for option, end in zip(options, ends, strict=True):
        subclasses = re.search(r"known\s+subclasses:\s+([^)]+)\)", help_text[option.end() : end])
        if subclasses:
            names[option[1]] = [re.sub(r"\s", "", path).rpartition(".")[2] for path in subclasses[1].split(",")]
    return names


def with_suggestion(message: str, help_text: Callable[[], str]) -> str:
    """`message`, and the nearest option of the help text where it quotes a name that no option has but one nearly has.

    >>> with_suggestion("Group 'model' does not accept option 'learning_rat'", lambda: "  --model.learning_rate RATE")
    "Group 'model' does not accept option 'learning_rat': did you mean model.learning_rate?"
    """
    names = QUOTED_NAME.findall(message)
    if not names or "option" not in message.lower():
        return message
    known = set(OPTION.findall(help_text()))
    parents = [name for name in names if any(option.startswith(f"{name}.") for option in known)]
    wanted = ".".join([*parents[:1], names[-1]])
    nearest = difflib.get_close_matches(wanted, known, n=1) if wanted not in known else []
    return f"{message}: did you mean {nearest[0]}?" if nearest else message


def find_misspelt_option(arguments: Sequence[str], help_text: str) -> str | None:
    """A message about the first of `arguments` that is no option of the help text; None where all are.

    An option of a class to choose, `--source.root`, is that class's to refuse: here it is known if `--source` is.
    """
    known = set(OPTION.findall(help_text))
    # groups take their own options alone
    groups = {parent for name in known if not name.endswith(".help") for parent in _parents(name)}
    for argument in arguments[: arguments.index("--") if "--" in arguments else None]:
        name = argument.removeprefix("--").partition("=")[0].removesuffix("+")
        if argument.startswith("--") and name not in known and not any(parent in known - groups for parent in _parents(name)):
            return _no_such_option(name, known)
    return None


def _parents(name: str) -> Iterator[str]:
    """`data` and `data.source` of `data.source.root`."""
    return (name[:place] for place, letter in enumerate(name) if letter == ".")


def _no_such_option(name: str, known: Collection[str]) -> str:
    # `sorce.root` is nearest `source.root`, which the help does not list, as only some sources have a root
    choices = [option.removesuffix(".help") for option in known if option.endswith(".help")]
    _, dot, last = name.rpartition(".")
    candidates = [*known, *(f"{option}.{last}" for option in choices if dot)]
    nearest = [option for option in sorted(known) if option.startswith(name)] or difflib.get_close_matches(name, candidates, n=1)
    return f"there is no option --{name}: " + (f"did you mean --{nearest[0]}?" if nearest else "--help lists them")
