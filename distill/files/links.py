"""Folders that may be from somebody else: what is in them leads nowhere else, and holds up nobody who reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from distill.records import BadInput


def refuse_special_files(folder: Path) -> None:
    """Raises BadInput where something in a folder is neither a file nor a folder: a device or a pipe may be read for ever.

    Links are followed to what they name, but not into folders.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                mode = os.stat(path).st_mode
            except OSError:  # a link to nothing, which a reader reports itself
                continue
            if not stat.S_ISREG(mode):
                raise BadInput(f"{path}: neither a file nor a folder: remove it")


def refuse_links_out(folder: Path, name: str) -> None:
    """Raises BadInput where the path `name` below `folder`, which is about to be written, leads out of it by a link.

    Args:
        folder: may itself be reached by links.
        name: path relative to it, of which any part may not exist yet.
    """
    within = os.path.realpath(folder)
    path = Path(folder)
    for part in Path(name).parts:
        path = path / part
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(within):
            fix = "remove it, choose another --out, or give --trust if it is yours"
            raise BadInput(f"{path}: a link to {os.path.realpath(path)}, whose files would be overwritten: {fix}")
