"""What a training begins from: a folder or hub name, or a checkpoint of another run, whose folder has its architecture."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.records import BadInput

START = "start"  # within a run folder: the model the run began from


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a Lightning checkpoint; refuses a damaged file, and one that is no checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare checksums
        if damaged:
            raise EOFError(damaged)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["global_step"], checkpoint["state_dict"]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such checkpoint") from None
    except Exception:  # unpacking and unpickling damaged bytes can raise anything
        raise BadInput(f"{path}: not a checkpoint of a training run, or a damaged one: name or restore another, or delete it") from None
    return checkpoint


def is_checkpoint(name: str) -> bool:
    """Tells a checkpoint from a folder or hub name by its ending.

    >>> is_checkpoint("runs/mine/checkpoints/best.ckpt"), is_checkpoint("sentence-transformers/all-mpnet-base-v2")
    (True, False)
    """
    return name.endswith(".ckpt")


def find_model_folder(name: str) -> str:
    """Returns the folder that has the architecture of `name`: itself, or for a checkpoint the `start` folder of its run."""
    if not is_checkpoint(name):
        return name
    read_checkpoint(name)
    start = Path(name).resolve().parent.parent / START
    if not start.exists():
        fix = "name a checkpoint in its run folder, or the model's folder"
        raise BadInput(f"{name}: only weights, and no {start} that says of what: {fix}")
    return str(start)


def load_checkpoint_weights(model: nn.Module, name: str, prefix: str) -> None:
    """Loads the weights whose names begin with `prefix` into `model`, where `name` is a checkpoint; does nothing where it is not."""
    if not is_checkpoint(name):
        return
    state: dict[str, Tensor] = read_checkpoint(name)["state_dict"]
    weights = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise BadInput(f"{name}: its weights are of another architecture or head: name the model's folder instead") from None


def describe_start(name: str, **values: tuple[Any, Any]) -> str:
    """Returns one line on where each setting comes from.

    Args:
        name: the model that training begins from.
        values: for each setting what was given, None for nothing, and what is used.

    >>> describe_start("bert", max_length=(10, 10), temperature=(None, 0.05))
    'begins from the weights of bert: max_length 10 (given), temperature 0.05 (its own)'
    """
    settings = [f"{key} {used} ({'its own' if given is None else 'given'})" for key, (given, used) in values.items()]
    return f"begins from the weights of {name}: " + ", ".join(settings)
