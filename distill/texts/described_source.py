"""Makes the source of texts that a run folder describes. The folder may be from somebody else: without trust its files choose no code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.files.configs import describe_trust, from_config, is_imported, list_class_paths, refuse_unreachable
from distill.records import NeedsTrust
from distill.texts.hubs import data_set_folder
from distill.texts.text_source import TextSource, require_source


def make_described_source(node: Any, trust: bool = False) -> TextSource:
    """Makes the source that a configuration describes.

    Args:
        node: plain values, with class paths as this release has them.
        trust: whether any source may be made. Without it those of this package are, as far as they only read files, and those of other
            packages that the program has imported already.

    Raises:
        BadInput: the configuration describes no source, or one that needs trust.
    """
    if not trust:
        for path, arguments in list_class_paths(node):
            refuse_unreachable(str(path))
            danger = find_danger(path, arguments)
            if danger is not None:
                raise NeedsTrust(f"source: {path}: {describe_trust(danger)}")
    return require_source(from_config(node, trust))


def find_danger(path: Any, arguments: dict[str, Any]) -> str | None:
    """Says what the object of that class path would do besides reading files; None where that is nothing.

    >>> find_danger("distill.texts.sources.Beir", {"root": "data"}), find_danger("os.system", {"command": "ls"})
    (None, 'is no source of texts')
    """
    if not isinstance(path, str):
        return "is no class"
    if path in READERS:
        try:
            return READERS[path](**arguments)
        except (TypeError, ValueError, OSError):  # arguments that its class would refuse, too
            return "has other arguments than this release knows"
    if not is_imported(path):
        return "is code outside of this package"
    return None if _is_own_source(path) else "is no source of texts"


def _is_own_source(path: str) -> bool:
    """Whether a class that the program has imported is a source of somebody's own."""
    module, _, name = path.rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and issubclass(kind, TextSource) and not path.startswith("distill.")


def _read_only(**_: Any) -> None:
    """A source that only reads files."""


def _find_danger_of_docstrings(root: str, **_: Any) -> str | None:
    return None if Path(root).is_dir() else "writes a folder where there is none"


def _find_danger_of_ir_datasets(corpus: str, splits: dict[str, str], **_: Any) -> str | None:
    return None if data_set_folder(corpus, splits).is_dir() else "asks a hub for what is not here yet"


def _find_danger_of_data_set(
    path: str, splits: list[str], revision: str | None = None, judgments: str | None = None, **_: Any
) -> str | None:
    return None if data_set_folder(path, splits, revision, judgments).is_dir() else "asks a hub for what is not here yet"


# what the sources of this package do besides reading files, from their arguments
READERS: dict[str, Callable[..., str | None]] = {
    "distill.texts.collection.Collection": _read_only,
    "distill.texts.hubs.HfDataset": _find_danger_of_data_set,
    "distill.texts.hubs.IrDatasets": _find_danger_of_ir_datasets,
    "distill.texts.python_docs.PythonDocs": _find_danger_of_docstrings,
    "distill.texts.sources.Beir": _read_only,
    "distill.texts.sources.MsMarcoTsv": _read_only,
}
