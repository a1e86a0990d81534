"""Model folders on this machine, or downloaded once from the hub."""

from __future__ import annotations

import os
from pathlib import Path

from distill.records import BadInput

HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]  # no ONNX, no TensorFlow, no pickles


def local_folder(name: str) -> Path:
    """`name` itself when it is a folder, else the hub repository of that name, downloaded once.

    Raises BadInput where it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client raises many kinds: no network, no such repository, no permission, no such name
        offline = ", HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise BadInput(f"{name}: no such folder, and the hub did not give it ({type(error).__name__}{offline}): pass a folder") from None
