"""Whatever can be judged, under one interface: a folder, an encoder, a sentence-transformers model, a static model, a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.encoders.batching import encode_texts
from distill.encoders.encoder import Encoder
from distill.encoders.tokenizing import Role
from distill.encoders.towers import Towers, load_towers
from distill.evaluation.latency import ServingPath, pytorch_path
from distill.files.atomic import refuse_unreadable
from distill.files.device import best_device
from distill.files.progress import log
from distill.records import BadInput, UnknownKind, is_out_of_memory, one_line
from distill.teachers.function import TextFunction, as_float32, text_functions


@dataclass(frozen=True)
class System:
    """A model of texts, as an evaluation needs it.

    Args:
        name: for messages and provenance.
        functions: by role, from N texts to vectors [N, D].
        params: number of its parameters; None where it has none that can be counted.
        make_fingerprint: computes that of its weights and settings; None where it has none.
        serving_path: how a server would ask it for one query; by default as for many.
        module: what embeds its queries, where that is a module of PyTorch, which can be moved to another device.
    """

    name: str
    functions: dict[Role, TextFunction]
    params: int | None = None
    make_fingerprint: Callable[[], str] | None = None
    serving_path: ServingPath | None = None
    module: nn.Module | None = None

    @cached_property
    def fingerprint(self) -> str | None:
        """16 hex digits of its weights and settings; None where it has none."""
        return None if self.make_fingerprint is None else self.make_fingerprint()

    def encode(self, texts: str | Sequence[str], role: Role) -> np.ndarray:
        """Vectors [N, D] float32 of N texts, or the vector [D] of a single text."""
        batch = [texts] if isinstance(texts, str) else list(texts)
        vectors = as_float32(self.functions[role](batch))
        if vectors.ndim != 2 or len(vectors) != len(batch):
            raise BadInput(f"{self.name}: gives an array of shape {vectors.shape} for {len(batch)} texts: expected one vector for each")
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_one(self, text: str) -> np.ndarray:
        """The vector [1, D] of one query, as a server would ask for it."""
        if self.serving_path is not None:
            return self.serving_path(text)
        return as_float32(self.functions["query"]([text]))

    @property
    def cost(self) -> dict[str, int]:
        """The field of results.json that holds its size."""
        return {} if self.params is None else {"params": self.params}


def open_system(model: Any, device: torch.device | None = None) -> System:
    """Any model of texts as a System.

    Args:
        model: a folder or hub name (ours, of transformers or of sentence-transformers); an Encoder or Towers; an object with
            `encode_query` and `encode_document`, as SentenceTransformer, or with `encode`, as model2vec's StaticModel; a function
            from a list of texts to vectors.
        device: where an Encoder or Towers compute; by default on the fastest one.

    Raises:
        BadInput: where it is none of these.
    """
    if isinstance(model, str | Path):
        return _open_folder(str(model))
    if isinstance(model, Encoder):
        model = Towers(model)
    if isinstance(model, Towers):
        return _of_towers(model, type(model.query).__name__, device)
    module = model if isinstance(model, nn.Module) else None
    return System(type(model).__name__, text_functions(model), _count_parameters(model), module=module)


def _open_folder(name: str) -> System:
    try:
        towers = load_towers(name)
        towers.cap_length(name)
        return _of_towers(towers, name)
    except UnknownKind as error:
        if find_spec("sentence_transformers") is None:
            raise
        log.warning(f"{name}: embedded by sentence-transformers, as distill does not know all of its modules ({error})")
    from sentence_transformers import SentenceTransformer

    with refuse_unreadable("a model that sentence-transformers loads", name):
        system = open_system(SentenceTransformer(name, device=str(best_device()), trust_remote_code=False))
    functions = {role: _refuse_failures(name, function) for role, function in system.functions.items()}
    return System(name, functions, system.params, module=system.module)


def _refuse_failures(name: str, function: TextFunction) -> TextFunction:
    """The same function, with one line in place of an error of sentence-transformers: its modules raise any kind at odd texts."""

    def encode(texts: list[str]) -> Any:
        try:
            return function(texts)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise BadInput(f"{name}: sentence-transformers cannot embed these texts with it ({reason}): mend the folder") from None

    return encode


def _of_towers(towers: Towers, name: str, device: torch.device | None = None) -> System:
    towers.prepare_for(device or best_device())

    def encode(role: Role) -> TextFunction:
        return lambda texts: encode_texts(towers.tower(role), texts, role)

    functions: dict[Role, TextFunction] = {"query": encode("query"), "document": encode("document")}
    params, serving_path = towers.query.parameter_count(), pytorch_path(towers.query)
    return System(name, functions, params, towers.fingerprint, serving_path, towers.query)


def _count_parameters(model: Any) -> int | None:
    parameters = getattr(model, "parameters", None)
    if not callable(parameters):
        return None
    return sum(parameter.numel() for parameter in parameters())
