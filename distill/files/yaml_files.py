"""Reads YAML that may be from somebody else: plain values alone, of a size that a configuration has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from distill.records import BadInput, one_line

LARGEST_FILE = 16 << 20  # bytes
# Ten lines of aliases of aliases describe a thousand million values.
MOST_VALUES = 1_000_000


def read_yaml(path: Path) -> Any:
    """Reads the value in a YAML file.

    Raises:
        BadInput: the file is not YAML of plain values, or is far larger than a configuration is.
    """
    if path.exists() and not path.is_file():
        raise BadInput(f"{path}: not a file: restore it")
    with open(path, "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise BadInput(f"{path}: more than {LARGEST_FILE >> 20} MiB of YAML: no configuration: restore it")
    try:
        text = content.decode("utf-8-sig")
        refuse_too_many_values(text)
        return yaml.safe_load(text)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid YAML ({one_line(error)}): restore it") from None


def refuse_too_many_values(text: str) -> None:
    """Raises BadInput where aliases in a YAML text stand for more values than a configuration has, or for themselves.

    >>> refuse_too_many_values("one: &one [1, 2]\\ntwo: [*one, *one]")
    >>> lines = ["a0: &a0 [1, 2]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30)]
    >>> refuse_too_many_values("\\n".join(lines))
    Traceback (most recent call last):
    distill.records.BadInput: its aliases stand for more than 1000000 values: write them out
    """
    if "*" not in text or "&" not in text:
        return
    # before the values are made: a merge of aliases, `<<: [*a, *a]`, copies what they stand for
    if _count_values(yaml.compose(text, Loader=yaml.SafeLoader), {}) > MOST_VALUES:
        raise BadInput(f"its aliases stand for more than {MOST_VALUES} values: write them out")


def _count_values(node: Any, counts: dict[int, int]) -> int:
    """The number of values that a node stands for, however often it is repeated; each node is looked at once.

    Args:
        node: a node of YAML; None, or a pair of nodes in a mapping.
        counts: the counts of nodes so far, by `id`; a node within itself has more than MOST_VALUES.
    """
    if isinstance(node, tuple):
        return sum(_count_values(part, counts) for part in node)
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in counts:
        counts[id(node)] = MOST_VALUES + 1
        counts[id(node)] = 1 + sum(_count_values(part, counts) for part in node.value)
    return counts[id(node)]
