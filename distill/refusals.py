"""What the argument parser says about bad input, as one line that names the key and the fix."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "dict": "a mapping", "list": "a list", "str": "text"}
UNKNOWN_OPTION = re.compile(r"(?:Group '(?P<group>[\w.]+)' does not accept option|Option) '(?P<name>[^']+)'(?: is not accepted)?$")
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
    places = [key or kind for key, kind in PLACES.findall(remarks)]
    rest = " ".join(PLACES.sub(" ", remarks).split()).lstrip("- ")
    return ": ".join([*places, _plainly(rest, places[0] if places else "")])


def _plainly(remark: str, key: str) -> str:
    given, wanted = re.search(r"(?:Got|Given) value: (.*)$", remark), _expected(remark)
    if given and wanted:
        return f"{given[1]!r} is {'none of' if len(wanted) > 1 else 'not'} {', '.join(wanted)}"
    if found := re.match(r"Expected a dot import path string: (\S+)$", remark):
        return f"there is no class {found[1]!r}: --help lists what {key} can be"
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


def unknown_option(message: str, help_text: Callable[[], str]) -> str:
    """`message`, said plainly and with the nearest option of the help text when it is about an option that does not exist."""
    if found := UNKNOWN_OPTION.match(message):
        name = f"{found['group']}.{found['name']}" if found["group"] else found["name"]
    elif message.startswith("unrecognized arguments: "):
        name = message.split()[2].split("=")[0]
        if not name.startswith("-"):
            return f"{name!r} is one argument too many: options begin with --"
    else:
        return message
    dashes = "--" if name.startswith("--") else ""
    known = [option.rstrip(".") for option in re.findall(r"--([\w.]+)", help_text())]
    nearest = difflib.get_close_matches(name.removeprefix("--"), known, n=1)
    return f"there is no option {name}: " + (f"did you mean {dashes}{nearest[0]}?" if nearest else "--help lists them")
