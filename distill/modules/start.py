"""The model that a training begins from: a folder, a hub name, or a checkpoint of another run, whose run folder has the architecture."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.encoders.encoder import Encoder
from distill.encoders.vocabulary import vocabulary_fingerprint
from distill.records import BadInput

# names of weights in the checkpoints of release 0.1, and their names now
OLD_NAMES = {"mixture.constant": "ensemble.constant", "mixture.of_margin": "ensemble.margin_factor"}
VOCABULARY = "vocabulary"  # in a student's checkpoint, the fingerprint of its tokens
START = "start"  # folder in a run folder: the model that the run began from


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a Lightning checkpoint; refuses a damaged file and any other kind of file."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged_member = archive.testzip()  # torch.load does not compare checksums
        if damaged_member:
            raise EOFError(damaged_member)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if type(checkpoint["global_step"]) is not int or not isinstance(checkpoint["state_dict"], dict):
            raise TypeError(path)
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


def refuse_other_tokens(name: str, encoder: Encoder, start: Encoder | None = None) -> None:
    """Refuses a start whose tokens are not those of the student, so that its rows of the word table would be read as other words.

    Args:
        name: a checkpoint, or the folder of `start`; a checkpoint of a release that did not record its tokens is not refused.
        encoder: the student.
        start: the encoder in that folder.

    Raises BadInput, which says how a student with the tokens of the start is made.
    """
    folder = name if start is not None else str(Path(name).parent.parent / "student")
    there = read_checkpoint(name).get(VOCABULARY) if start is None else vocabulary_fingerprint(start)
    if there is None or there == vocabulary_fingerprint(encoder):
        return
    fix = f"make the student by StudentFromBackbone({folder!r}) without vocabulary, which begins from it as it is"
    raise BadInput(f"{name}: a student of other tokens than model.student has, as its vocabulary is of other texts or another size: {fix}")


def load_checkpoint_weights(model: nn.Module, name: str, prefix: str) -> None:
    """Loads the weights whose names begin with `prefix` into `model` if `name` is a checkpoint; else does nothing."""
    if not is_checkpoint(name):
        return
    state: dict[str, Tensor] = read_checkpoint(name)["state_dict"]
    weights = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    load_weights(model, weights, name, "name the model's folder instead")


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], name: str, fix: str) -> None:
    """Loads all weights of a module.

    Args:
        module: takes the weights.
        weights: as `state_dict` names them.
        name: where they come from, for the message.
        fix: the end of the message.

    Raises:
        BadInput: a weight is missing, is one too many or has another shape; the message names it, and both shapes.
    """
    misfit = describe_misfit(module, weights)
    if misfit:
        raise BadInput(f"{name}: {misfit}: {fix}")
    module.load_state_dict(weights)


def describe_misfit(module: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """Describes the first weight that does not fit a module, one of another shape before one that only one of them has; None if all fit.

    >>> describe_misfit(nn.Linear(2, 1), {"weight": torch.zeros(3, 4), "bias": torch.zeros(1)})
    'its weight is [3, 4] there and [1, 2] here'
    >>> describe_misfit(nn.Linear(2, 1), {"weight": torch.zeros(1, 2)})
    'it has no bias, which is [1] here (1 weights are missing)'
    """
    there, here = dict(weights), module.state_dict()
    rename_old_weights(module, there)
    for name in here:
        if name in there and _shape(here[name]) != _shape(there[name]):
            return f"its {name} is {_shape(there[name])} there and {_shape(here[name])} here"
    missing = [name for name in here if name not in there]
    if missing:
        return f"it has no {missing[0]}, which is {_shape(here[missing[0]])} here ({len(missing)} weights are missing)"
    extra = [name for name in there if name not in here]
    if extra:
        return f"it has {extra[0]} {_shape(there[extra[0]])}, which is not here ({len(extra)} weights are too many)"
    return None


def _shape(weight: Any) -> list[int]:
    return list(getattr(weight, "shape", ()))


def rename_old_weights(_: nn.Module, weights: dict[str, Any], *__: Any) -> None:
    """Gives the weights of an older release's checkpoint their names of now."""
    for old, new in OLD_NAMES.items():
        if old in weights:
            weights[new] = weights.pop(old)


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
