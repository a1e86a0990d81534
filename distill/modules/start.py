"""What a training begins from: a folder or hub name, or a checkpoint of another run, whose folder holds its architecture."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.records import BadInput

START = "start"  # within a run folder: the model the run began from


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A Lightning checkpoint; refuses what is none."""
    try:
        with zipfile.ZipFile(path) as archive:  # loading does not compare checksums
            if damaged := archive.testzip():
                raise EOFError(damaged)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["global_step"], checkpoint["state_dict"]
    except FileNotFoundError:
        raise BadInput(f"{path}: no such checkpoint") from None
    except Exception:  # what unpacking and unpickling damaged bytes can raise has no end
        raise BadInput(f"{path}: not a checkpoint of a training run, or a damaged one: name or restore another, or delete it") from None
    return checkpoint


def is_checkpoint(name: str) -> bool:
    return name.endswith(".ckpt")


def find_model_folder(name: str) -> str:
    """Where the architecture of `name` is described: itself, or for a checkpoint the `start` folder of its run."""
    if not is_checkpoint(name):
        return name
    read_checkpoint(name)
    start = Path(name).resolve().parent.parent / START
    if not start.exists():
        raise BadInput(
            f"{name}: only weights, and no {start} that says of what: name a checkpoint in its run folder, or the model's folder"
        )
    return str(start)


def load_checkpoint_weights(model: nn.Module, name: str, prefix: str) -> None:
    """Loads the weights under `prefix` of a checkpoint into `model`, where `name` is one."""
    if not is_checkpoint(name):
        return
    state: dict[str, Tensor] = read_checkpoint(name)["state_dict"]
    own = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(own)
    except RuntimeError:
        raise BadInput(f"{name}: its weights are of another architecture or head: name the model's folder instead") from None


def describe_start(name: str, **values: tuple[Any, Any]) -> str:
    """One line on where each setting comes from: {name: (given or None, in use)}."""
    settings = [f"{key} {used} ({'given' if given is not None else 'its own'})" for key, (given, used) in values.items()]
    return f"begins from the weights of {name}: " + ", ".join(settings)
