"""The model that a training begins from: a folder, a hub name, or a checkpoint of another run, whose run folder has the architecture."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.records import BadInput

START = "start"  # folder in a run folder: the model that the run began from


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a Lightning checkpoint; refuses a damaged file and any other kind of file."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged_member = archive.testzip()  # torch.load does not compare checksums
        if damaged_member:
            raise EOFError(damaged_member)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["global_step"], checkpoint["state_dict"]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such checkpoint") from None
    except Exception:  # unpacking and unpickling damaged bytes can raise anything
        raise BadInput(f"{path}: not a checkpoint of a training run, or a damaged one: name or restore another, or delete it") from None
    return checkpoint


def is_checkpoint(name: str) -> bool:
    """Tells whether a name is a checkpoint's and not that of a folder or hub model, by its ending.

    >>> is_checkpoint("runs/mine/checkpoints/best.ckpt"), is_checkpoint("sentence-transformers/all-mpnet-base-v2")
    (True, False)
    """
    return name.endswith(".ckpt")


def find_model_folder(name: str) -> str:
    """Returns the folder with the architecture of a model: `name` itself, or for a checkpoint the `start` folder of its run."""
    if not is_checkpoint(name):
        return name
    read_checkpoint(name)
    start = Path(name).resolve().parent.parent / START
    if not start.exists():
        fix = "name a checkpoint in its run folder, or the model's folder"
        raise BadInput(f"{name}: only weights, and no {start} that says of what: {fix}")
    return str(start)


def load_checkpoint_weights(model: nn.Module, name: str, prefix: str) -> None:
    """Loads the weights whose names begin with `prefix` into `model` if `name` is a checkpoint; else does nothing."""
    if not is_checkpoint(name):
        return
    state: dict[str, Tensor] = read_checkpoint(name)["state_dict"]
    weights = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise BadInput(f"{name}: its weights are of another architecture or head: name the model's folder instead") from None


def describe_start(name: str, **values: tuple[Any, Any]) -> str:
    """Describes in one line the model that a training begins from, and whether each setting is its own or was given.

    Args:
        name: the model that the training begins from.
        values: for each setting the value that was given, or None, and the value in use.

    >>> describe_start("bert", max_length=(10, 10), temperature=(None, 0.05))
    'begins from the weights of bert: max_length 10 (given), temperature 0.05 (its own)'
    """
    settings = []
    for key, (given_value, value) in values.items():
        origin = "its own" if given_value is None else "given"
        settings.append(f"{key} {value} ({origin})")
    return f"begins from the weights of {name}: " + ", ".join(settings)
