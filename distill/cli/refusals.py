"""What the argument parser says about bad input, as one line that names the key and the fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping", "list": "a list", "str": "text"}
UNKNOWN_OPTION = re.compile(r"(?:Group '(?P<group>[\w.]+)' does not accept option|Option) '(?P<name>[^']+)'(?: is not accepted)?$")
OPTION = re.compile(r"^ +(?:-\w[^-]*)?--([\w.]*\w)", re.MULTILINE)  # in a help text
# where the parser was, from the outside in: a key, or the class that was to be made there
PLACES = re.compile(r"\s*Parser key \"([^\"]+)\"(?: element \d+)?:|\s*Problem with given class_path '[\w.]*?(\w+)':")
# a text is tried as the path of a YAML file too, which nobody meant
NOT_A_PATH = re.compile(r"\s*- Expected a path but .* either not accessible or invalid\n")
# a class of ours, or nothing: what is said of nothing helps nobody
OR_NOTHING = re.compile(
    r"Does not validate against any of the Union subtypes\s+Subtypes: \[<class 'distill\.[\w.]+'>, <class 'NoneType'>\]\s+"
    r"Errors:\s+- (.*?)\s+- Expected a <class 'NoneType'>.*",
    re.DOTALL,
)


def one_line(message: str) -> str:
    """`model.losses: QueryMatching: distance: 'manhattan' is none of l2, squared_l2, cosine` for the parser's tree of remarks."""
    remarks = OR_NOTHING.sub(r"\1", NOT_A_PATH.sub("\n- ", message))
    places = list(dict.fromkeys(key or kind for key, kind in PLACES.findall(remarks)))
    rest = " ".join(PLACES.sub(" ", remarks).split()).lstrip("- ")
    rest = re.sub(r"^Unable to load config '(.*?)' - ", r"\1: ", rest)  # the file of a group
    return ": ".join([*places, _plainly(rest, places[0] if places else "")])


def _plainly(remark: str, key: str) -> str:
    given, wanted = re.search(r"(?:Got|Given) value: (.*)$", remark), _expected(remark)
    if given and wanted:
        return f"{given[1]!r} is {'none of' if len(wanted) > 1 else 'not'} {', '.join(wanted)}"
    if found := re.match(r"Expected a dot import path string: (\S+)$", remark):
        return f"there is no class {found[1]!r}: --help lists what {key} can be"
    if re.match(r"Expected an instantiatable class, but \S+ is abstract$", remark):
        return f"which one is not said: give --{key} NAME before its options; --help lists the names"
    if found := re.match(r"(.*): Unable to load config \".*\"$", remark):
        return f"{found[1]}: no such file, or one without keys and values"
    if found := re.match(r"the following arguments are required: (.*)$", remark):
        return f"{found[1]} must be given"
    if found := re.match(r"File does not exist: '(.*)'$", remark):
        return f"{found[1]}: no such file"
    if found := re.match(r'Problems parsing config: (.*) in "<unicode string>", (line \d+, column \d+)', remark):
        return f"{found[2]} is not valid YAML: {found[1]}"
    return "holds no keys and values: write YAML, e.g. out: runs/first" if remark.startswith("Unexpected config:") else remark


def _expected(remark: str) -> list[str]:
    """What the alternatives that the parser tried would have taken."""
    choices = [word.strip("' ") for found in re.findall(r"Expected a typing\.Literal\[(.*?)\]", remark) for word in found.split(",")]
    kinds = [KINDS.get(name, name) for name in re.findall(r"Expected a <class '(?:[\w.]*\.)?(\w+)'>", remark) if name != "NoneType"]
    return list(dict.fromkeys(choices + kinds))


def explain_unknown_option(message: str, help_text: Callable[[], str]) -> str:
    """`message`, said plainly and with the nearest option of the help text when it is about an option that does not exist."""
    if found := UNKNOWN_OPTION.match(message):
        name = f"{found['group']}.{found['name']}" if found["group"] else found["name"]
        return _no_option(name, "", set(OPTION.findall(help_text())))
    if found := re.match(r"unrecognized arguments: (\S+)", message):
        return _no_option(found[1], "", ()) if found[1][0] == "-" else f"{found[1]!r} is one argument too many: options begin with --"
    return message


def find_misspelt_option(arguments: Sequence[str], help_text: str) -> str | None:
    """What to say of the first of `arguments` that is no option of the help text; None where all are.

    An option of a class to choose, `--source.root`, is that class's to refuse: here it is known if `--source` is.
    """
    known = set(OPTION.findall(help_text))
    groups = {parent for name in known if not name.endswith(".help") for parent in _parents(name)}  # which take their own options alone
    for argument in arguments[: arguments.index("--") if "--" in arguments else None]:
        name = argument.removeprefix("--").partition("=")[0].removesuffix("+")
        if argument.startswith("--") and name not in known and not any(parent in known - groups for parent in _parents(name)):
            return _no_option(name, "--", known)
    return None


def _parents(name: str) -> Iterator[str]:
    """`data` and `data.source` of `data.source.root`."""
    return (name[:place] for place, letter in enumerate(name) if letter == ".")


def _no_option(name: str, dashes: str, known: Iterable[str]) -> str:
    # `sorce.root` is nearest `source.root`, which the help does not list, as only some sources have a root
    choices = [option.removesuffix(".help") for option in known if option.endswith(".help")]
    _, dot, last = name.rpartition(".")
    listed = [*known, *(f"{option}.{last}" for option in choices if dot)]
    nearest = [option for option in sorted(known) if option.startswith(name)] or difflib.get_close_matches(name, listed, n=1)
    return f"there is no option {dashes}{name}: " + (f"did you mean {dashes}{nearest[0]}?" if nearest else "--help lists them")
