"""Objects as plain values, {class_path, init_args}, and back: this is how a run's config.yaml describes the objects of a run."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.util import find_spec
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from distill.records import BadInput, NeedsTrust

# Where release 0.1 had classes that its run folders name.
OLD_MODULES = {
    "distill.data.hubs": "distill.texts.hubs",
    "distill.data.negatives": "distill.teachers.negatives",
    "distill.data.python_docs": "distill.texts.python_docs",
    "distill.data.sources": "distill.texts.sources",
}
OLD_CLASS_PATHS = {
    f"distill.data.{name}": f"distill.texts.{name}"
    for name in ("Beir", "HfDataset", "IrDatasets", "MsMarcoTsv", "PythonDocs", "QueryFile", "TextSource")
}


class Configurable:
    """Base of objects that remember the arguments they were made with, so that a configuration can describe them.

    Arguments of `**kwargs` are remembered by their own names. An object made with `*args` works, but has no configuration.

    >>> class Point(Configurable):
    ...     def __init__(self, x: int, y: int = 0):
    ...         self.x, self.y = x, y
    >>> Point(1).init_args
    {'x': 1, 'y': 0}
    """

    init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        instance = super().__new__(cls)
        # copy and pickle call this without arguments and restore init_args afterwards; __init__ reports wrong arguments itself.
        with suppress(TypeError):
            # Not setattr, which an nn.Module refuses before its __init__.
            object.__setattr__(instance, "init_args", _named_arguments(cls.__init__, instance, *args, **kwargs))
        refuse_unknown_choices(cls.__init__, getattr(instance, "init_args", {}))
        return instance


def refuse_unknown_choices(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Refuses an argument that is none of the values its type hint, a Literal, lists; the command line's parser does so too.

    >>> def cut(side: Literal["left", "right"] | None = None) -> None: ...
    >>> refuse_unknown_choices(cut, {"side": "lef"})
    Traceback (most recent call last):
    distill.records.BadInput: side: 'lef' is none of left, right
    """
    try:
        hints = get_type_hints(function)
    except NameError:  # a name that only type checkers import
        return
    for name, value in arguments.items():
        hint = hints.get(name)
        kinds = [kind for kind in (get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint]) if kind is not type(None)]
        if value is None or not kinds or any(get_origin(kind) is not Literal for kind in kinds):
            continue
        choices = [choice for kind in kinds for choice in get_args(kind)]
        if value not in choices:
            raise BadInput(f"{name}: {value!r} is none of {', '.join(map(str, choices))}")


def _named_arguments(init: Callable[..., None], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Arguments of a call of `init` by name, defaults included and `self` left out; TypeError where one has no name."""
    bound = inspect.signature(init).bind(*args, **kwargs)
    bound.apply_defaults()
    _, *parameters = bound.signature.parameters.values()
    named: dict[str, Any] = {}
    for parameter in parameters:
        value = bound.arguments[parameter.name]
        if isinstance(value, list | dict | set):
            value = copy(value)  # which its owner may change later
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(value)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            named[parameter.name] = value
        elif value:
            raise TypeError(f"*{parameter.name} have no names")
    return named


def to_config(value: Any) -> Any:
    """Describes an object by plain values that YAML and JSON can hold.

    Args:
        value: anything; objects within lists, mappings and dataclasses are described too.

    Returns:
        {class_path, init_args} for a Configurable, a mapping for a dataclass, a list for a list or tuple, numbers and texts as they
        are. Any other object becomes its str(); one whose str() is its address in memory, which changes with each run, becomes the
        path of its class.

    Raises:
        BadInput: a Configurable was made with arguments that have no names.

    >>> to_config({"sizes": (1, 2), "precision": None})
    {'sizes': [1, 2], 'precision': None}
    """
    if isinstance(value, Configurable):
        return _describe(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_config(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: to_config(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_config(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(to_config(item) for item in value)
    if hasattr(value, "tolist"):  # arrays and tensors, whose text leaves out most of their numbers
        return to_config(value.tolist())
    return _plain_value(value)


def _describe(value: Configurable) -> dict[str, Any]:
    path = _dotted_path(type(value))
    if not hasattr(value, "init_args"):
        raise BadInput(f"{path}: made with arguments that have no names (*args): a configuration needs a name for each")
    for name, argument in value.init_args.items():
        now = getattr(value, name, argument)
        if type(now) is type(argument) and isinstance(now, bool | int | float | str) and now != argument:
            raise BadInput(f"{path}: {name} was {argument} when it was made and is {now} now: give the value when you make it")
    return {"class_path": path, "init_args": to_config(value.init_args)}


def _plain_value(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _plain_value(value.value)
    if isinstance(value, Integral):
        return int(value)  # NumPy's numbers too, which YAML does not know
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, type) or inspect.isroutine(value):
        return _dotted_path(value)
    has_own_text = type(value).__str__ is not object.__str__ or type(value).__repr__ is not object.__repr__
    return str(value) if has_own_text else _dotted_path(type(value))


def _dotted_path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def from_config(node: Any, trust: bool = False) -> Any:
    """Makes the objects that a configuration describes: the way back from `to_config`.

    Args:
        node: plain values; every {class_path, init_args} within them is replaced by the object.
        trust: whether code of other packages may be imported; without it their classes are made only where the program has imported
            them already.

    Raises:
        BadInput: a class path names no class, one that is not derived from a class of this package, or one that needs trust.
    """
    if isinstance(node, list):
        return [from_config(item, trust) for item in node]
    if not isinstance(node, dict):
        return node
    if "class_path" not in node:
        return {key: from_config(value, trust) for key, value in node.items()}
    return load_class(node["class_path"], trust)(**from_config(node.get("init_args") or {}, trust))


def load_class(path: str, trust: bool = False) -> type:
    """Imports the class of that dotted path; refuses a class that is not derived from a class of this package.

    Without `trust` nothing of another package is imported: a class of it must be in the program already.
    """
    name = _translate_old_path(str(path))
    refuse_unreachable(name)
    if not (trust or is_imported(name)) and _can_be_imported(name):
        raise NeedsTrust(f"{path}: {describe_trust('is code outside of this package')}")
    try:
        value = _import_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"{path}: no class of that path ({error}): mend the path or install its package") from None
    # A run folder from somebody else must not choose which code is called here.
    if not isinstance(value, type) or not any(base.__module__.startswith("distill.") for base in value.__mro__):
        raise BadInput(f"{path}: no class of this package, nor derived from one: mend the path")
    return value


def refuse_unreachable(path: str) -> None:
    """Raises BadInput for a class of another program, such as a notebook, or of a function: nothing else can import it, trusted or not."""
    module, _, name = path.rpartition(".")
    is_here = module == "__main__" and hasattr(sys.modules[module], name)
    if "<locals>" in path or (path.startswith("__main__.") and not is_here):
        raise BadInput(
            f"{path}: was defined in a notebook, a script or a function: move it into a module, and write that module's name here"
        )


def describe_trust(danger: str) -> str:
    """The end of a message about something that is done only for folders that the user trusts.

    >>> describe_trust("writes files")
    'writes files: give --trust (in Python trust=True) if you trust whoever made the folder'
    """
    return f"{danger}: give --trust (in Python trust=True) if you trust whoever made the folder"


def is_imported(path: str) -> bool:
    """Whether the class of that path is in this package, or in a module that the program has imported already."""
    module = path.rpartition(".")[0]
    return module.partition(".")[0] == "distill" or module in sys.modules


def _can_be_imported(path: str) -> bool:
    """Whether there is a package of that name; nothing is imported to find out."""
    package = path.partition(".")[0]
    try:
        return package in sys.modules or find_spec(package) is not None
    except ValueError:  # no name, or one without a file
        return False


def list_class_paths(node: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yields the class path and the arguments of every object that a configuration describes, the outer ones first."""
    if isinstance(node, dict):
        if "class_path" in node:
            arguments = node.get("init_args")
            yield node["class_path"], arguments if isinstance(arguments, dict) else {}
        node = list(node.values())
    for part in node if isinstance(node, list) else []:
        yield from list_class_paths(part)


def current_class_path(path: str) -> str:
    """The path under which this release defines a class of this package; other paths, and unknown ones, stay as they are.

    A class may be named by the module that defines it, by a package that exports it, or by its place in an earlier release.

    >>> current_class_path("distill.data.Beir"), current_class_path("distill.texts.Beir"), current_class_path("mine.Notes")
    ('distill.texts.sources.Beir', 'distill.texts.sources.Beir', 'mine.Notes')
    """
    if not path.startswith("distill."):
        return path
    try:
        return _dotted_path(_import_name(_translate_old_path(path)))
    except (ImportError, AttributeError, ValueError):
        return path


def with_current_class_paths(node: Any) -> Any:
    """The same configuration with each class path as this release has it, so that configurations can be compared."""
    if isinstance(node, list):
        return [with_current_class_paths(item) for item in node]
    if not isinstance(node, dict):
        return node
    current = {}
    for key, value in node.items():
        is_path = key == "class_path" and isinstance(value, str)
        current[key] = current_class_path(value) if is_path else with_current_class_paths(value)
    return current


def _translate_old_path(path: str) -> str:
    module, _, name = path.rpartition(".")
    return OLD_CLASS_PATHS.get(path, f"{OLD_MODULES.get(module, module)}.{name}")


def _import_name(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
