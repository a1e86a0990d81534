"""Model folders on this machine, or downloaded once from the hub."""

from __future__ import annotations

import os
from pathlib import Path

from distill.records import BadInput

RESULTS = ("student", "teacher")  # of a training, in its run folder
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]  # no ONNX, no TensorFlow, no pickles


def local_folder(name: str, with_code: bool = False) -> Path:
    """The folder of a model: `name` itself, the model in the run folder `name`, or the hub repository of that name, downloaded once.

    Its Python files are downloaded only `with_code`.

    Raises BadInput where it is none of these, and where the run has not come to its end.
    """
    if Path(name).is_dir():
        return find_run_result(Path(name))
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*HUB_FILES, "*.py"] if with_code else HUB_FILES))
    except Exception as error:  # the hub client raises many kinds: no network, no such repository, no permission, no such name
        offline = ", HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise BadInput(f"{name}: no such folder, and the hub did not give it ({type(error).__name__}{offline}): pass a folder") from None


def find_run_result(folder: Path) -> Path:
    """The model that a training left in its run folder; any other folder is returned as it is."""
    if not (folder / "config.yaml").is_file() or is_model(folder):
        return folder
    results = [folder / name for name in RESULTS if is_model(folder / name)]
    if not results:
        raise BadInput(f"{folder}: a run folder without a student or teacher: run distill train or teach to its end")
    return results[0]


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model of sentence-transformers or transformers."""
    return (folder / "modules.json").exists() or (folder / "config.json").exists()
