"""A dual encoder on this machine as a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from distill.encoders.batching import batch_memory, encode_token_ids
from distill.encoders.maker import Maker
from distill.encoders.model_options import ModelOptions
from distill.encoders.tokenizing import LONGEST_UNASKED, Role
from distill.encoders.towers import ROLES, Towers, read_towers
from distill.files.device import Precision, best_device, resolve_precision, used_memory
from distill.records import BadInput, one_line
from distill.teachers.embedder import Progress


@dataclass(frozen=True)
class LocalTeacher:
    """A dual encoder on this machine.

    Args:
        towers: the model, on the device that computes.
        precision: number format of the matrix products.
        maker: the model, as its stores name it.
    """

    towers: Towers
    precision: Precision
    maker: Maker

    @property
    def width(self) -> int:
        return self.towers.width

    @property
    def where(self) -> str:
        device, tower = self.towers.device, self.towers.document
        place, used = f"in {self.precision} on {device}", used_memory(device)
        if used is None:
            return place
        batch = batch_memory(tower.budget.tokens(device), tower.transformer.numbers_per_token, self.precision)
        return f"{place}, {(used + batch) / 2**30:.2f} GiB of memory in all"

    def prepare(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Returns the token ids of N texts."""
        return self.towers.tower(role).token_ids(texts, role)

    def embed(self, prepared: Sequence[list[int]], role: Role, progress: Progress) -> np.ndarray:
        """Returns the vectors [N, D] float32 of N texts, given as token ids."""
        return encode_token_ids(self.towers.tower(role), prepared, self.precision, progress)


def load_local_teacher(name: str, precision: Precision, options: ModelOptions | None = None, compiled: bool = False) -> LocalTeacher:
    """Loads a dual encoder from a folder or a hub name onto the best device.

    Raises BadInput where its weights do not fit into memory, are to be bf16 where products are to be fp32, or cannot be compiled.
    """
    options, device = options or ModelOptions(), best_device()
    if options.weights == "bf16" and precision == "auto":
        precision = "bf16"  # in which products of such weights are
    precision = resolve_precision(precision, device.type)
    if precision == "fp32":
        if options.weights == "bf16":
            raise BadInput("weights: bf16: products of such weights are bf16: leave out precision: fp32, or weights")
        options = replace(options, weights="fp32")
    towers = read_towers(name, options)
    if len({tower.transformer.dtype for tower in (towers.query, towers.document)}) > 1:  # a store names one format
        towers = read_towers(name, replace(options, weights="fp32"))
    if options.max_length is None and towers.cap_length(name):
        options = replace(options, max_length=LONGEST_UNASKED)
    towers.prepare_for(device)
    full_name = str(Path(name).resolve()) if Path(name).is_dir() else name
    teacher = LocalTeacher(towers, precision, name_maker(full_name, towers, precision, options))
    if compiled:
        compile_layers(teacher)
    return teacher


def compile_layers(teacher: LocalTeacher) -> None:
    """Compiles the layers of a teacher for batches of any size, and embeds a few texts, which takes minutes.

    Raises BadInput where PyTorch cannot, for example without a C++ compiler.
    """
    with_layers = [role for role in ROLES if teacher.towers.tower(role).transformer.has_layers]
    for role in with_layers or ROLES:  # a table of tokens, beside no other, refuses it
        if role == "query" or not teacher.towers.shared:
            teacher.towers.tower(role).transformer.compile_layers()
        try:
            for texts in (["a", "a a a"], ["a a a a"] * 3):
                teacher.embed(teacher.prepare(texts, role), role, lambda done: None)
        except Exception as error:  # of any kind: its parts, the compiler and the model are all in play
            raise BadInput(f"compile: {one_line(error)}: leave it out, or install what is missing") from None


def name_maker(name: str, towers: Towers, precision: Precision, options: ModelOptions) -> Maker:
    """Names a model as its stores do."""
    is_bf16 = any(tower.transformer.dtype == torch.bfloat16 for tower in (towers.query, towers.document))
    runs_code = towers.query.runs_remote_code or towers.document.runs_remote_code
    return Maker(
        name,
        towers.fingerprint(),
        precision=precision,
        pooling=options.pooling,
        normalize=options.normalize,
        prompts=options.prompts,
        trust_remote_code=runs_code or None,
        max_length=options.max_length,
        dimensions=options.dimensions,
        weights="bf16" if is_bf16 else None,
    )
