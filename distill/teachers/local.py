"""A dual encoder on this machine as a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill.encoders.batching import encode_token_ids
from distill.encoders.maker import Maker
from distill.encoders.pooling import PoolingMode
from distill.encoders.tokenizing import Role
from distill.encoders.towers import Towers, load_towers
from distill.files.device import Precision, best_device, resolve_precision
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
        return f"in {self.precision} on {self.towers.device}"

    def prepare(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Returns the token ids of N texts."""
        return self.towers.tower(role).token_ids(texts, role)

    def embed(self, prepared: Sequence[list[int]], role: Role, progress: Progress) -> np.ndarray:
        """Returns the vectors [N, D] float32 of N texts, given as token ids."""
        return encode_token_ids(self.towers.tower(role), prepared, self.precision, progress)


def load_local_teacher(
    name: str,
    precision: Precision,
    pooling: PoolingMode | None,
    normalize: bool | None,
    prompts: dict[str, str] | None,
    trust_remote_code: bool = False,
) -> LocalTeacher:
    """Loads a dual encoder from a folder or a hub name onto the best device."""
    towers = load_towers(name, pooling, normalize, prompts, trust_remote_code).prepare_for(best_device())
    precision = resolve_precision(precision, towers.device.type)
    full_name = str(Path(name).resolve()) if Path(name).is_dir() else name
    maker = Maker(full_name, towers.fingerprint(), precision=precision, pooling=pooling, normalize=normalize, prompts=prompts)
    if towers.query.runs_remote_code or towers.document.runs_remote_code:
        maker = replace(maker, trust_remote_code=True)
    return LocalTeacher(towers, precision, maker)
