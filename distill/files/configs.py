"""Objects as plain values, {class_path, init_args}, and back: what a run's config.yaml says of the objects it was made with."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import fields, is_dataclass
from typing import Any, Self

from distill.records import BadInput

# where classes of this package were in release 0.1: its run folders name them
OLD_MODULES = {
    "distill.data.hubs": "distill.texts.hubs",
    "distill.data.negatives": "distill.teachers.negatives",
    "distill.data.python_docs": "distill.texts.python_docs",
    "distill.data.sources": "distill.texts.sources",
    "distill.data": "distill.texts",
}


class Configurable:
    """Remembers the arguments it was made with, so that `to_config` can say how to make it again.

    >>> class Point(Configurable):
    ...     def __init__(self, x: int, y: int = 0):
    ...         self.x, self.y = x, y
    >>> Point(1).init_args
    {'x': 1, 'y': 0}
    """

    init_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(made, *args, **kwargs)
        except TypeError:
            return made  # a copy is made without arguments and gets its state afterwards; __init__ refuses everything else
        bound.apply_defaults()
        _, *names = bound.arguments
        object.__setattr__(made, "init_args", {name: bound.arguments[name] for name in names})
        return made


def to_config(value: Any) -> Any:
    """Plain values for YAML: a Configurable becomes {class_path, init_args}, a dataclass a mapping, a list or mapping its items."""
    if isinstance(value, Configurable):
        kind = type(value)
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": to_config(value.init_args)}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_config(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: to_config(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_config(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def from_config(node: Any) -> Any:
    """Replaces every {class_path, init_args} of a configuration by the object it describes."""
    if isinstance(node, list):
        return [from_config(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "class_path" not in node:
        return {key: from_config(value) for key, value in node.items()}
    module, name = current_class_path(node["class_path"]).rsplit(".", 1)
    found = getattr(importlib.import_module(module), name)
    # whoever sends a run folder may not choose what is called here
    if not (isinstance(found, type) and any(base.__module__.startswith("distill.") for base in found.__mro__)):
        raise BadInput(f"{node['class_path']}: no class of this package, nor derived from one")
    return found(**from_config(node.get("init_args", {})))


def current_class_path(path: str) -> str:
    """Where the class of that path is in this release.

    >>> current_class_path("distill.data.sources.Beir")
    'distill.texts.sources.Beir'
    """
    module, _, name = path.rpartition(".")
    return f"{OLD_MODULES[module]}.{name}" if module in OLD_MODULES else path


def with_current_class_paths(node: Any) -> Any:
    """The same configuration, its class paths as this release has them."""
    if isinstance(node, list):
        return [with_current_class_paths(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: current_class_path(value) if key == "class_path" else with_current_class_paths(value) for key, value in node.items()}
