"""Paths in the configuration of a run: absolute, so that every folder will do to work in, and found again once the run folder was moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# keys of values that may be a path of one word; the values of teachers and the names of queries may be, too
PATH_KEYS = ("store", "root", "path", "file", "folder", "first_stage", "start_from", "queries", "teachers", "dev_suite")


def with_absolute_paths(node: Any) -> Any:
    """The same configuration with every relative path that exists made absolute.

    A text counts as a path where its key says so or where it has a slash; names of a hub stay, as no such file exists here.

    Args:
        node: plain values.

    >>> with_absolute_paths({"store": "no/such/folder", "train": "train"})
    {'store': 'no/such/folder', 'train': 'train'}
    """

    def change(text: str, key: str) -> str:
        may_be_path = key in PATH_KEYS or os.sep in text
        return os.path.abspath(text) if may_be_path and os.path.exists(text) else text

    return _map_texts(node, change)


def find_moved_paths(node: Any, before: str, now: Path) -> Any:
    """The same configuration with its paths where they are once a run folder was moved.

    What lay in the run folder lies there still. Another path that is gone is looked for where it was as seen from the run folder: a whole
    project may have moved.

    Args:
        node: plain values.
        before: where the run folder was when the configuration was written.
        now: where it is.

    >>> find_moved_paths({"store": "/old/run/teacher", "dev": "dev"}, "/old/run", Path("/new/run"))
    {'store': '/new/run/teacher', 'dev': 'dev'}
    """
    here = os.path.abspath(now)
    if os.path.abspath(before) == here:
        return node

    def change(text: str, _: str) -> str:
        if text == before or text.startswith(before + os.sep):
            return here + text[len(before) :]
        if not (os.path.isabs(text) and os.path.isabs(before)) or os.path.exists(text):
            return text
        candidate = os.path.normpath(os.path.join(here, os.path.relpath(text, before)))
        return candidate if os.path.exists(candidate) else text

    return _map_texts(node, change)


def _map_texts(node: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Applies `change(text, key)` to all texts of a configuration, and to the files that data.queries maps to shares."""
    if isinstance(node, str):
        return change(node, key)
    if isinstance(node, list):
        return [_map_texts(item, change, key) for item in node]
    if not isinstance(node, dict):
        return node
    changed = {}
    for name, item in node.items():
        is_teacher_folder = key == "teachers" and isinstance(item, str)
        new_name = change(name, key) if key == "queries" else name
        changed[new_name] = _map_texts(item, change, key if is_teacher_folder else name)
    return changed
