"""What a user may set of a model beside what its folder says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distill.encoders.pooling import PoolingMode
from distill.encoders.tokenizing import no_prompts
from distill.records import BadInput

Weights = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class ModelOptions:
    """How a model's folder is read; None leaves a setting to the folder.

    Attributes:
        pooling: mode of a `Pooling`, for a plain transformers folder.
        normalize: whether vectors are scaled to length 1.
        prompts: of queries and documents, in place of the folder's own.
        max_length: most tokens of a text, special tokens included.
        dimensions: numbers that are kept of each vector, the first ones; they are scaled to length 1 again where the folder does so.
        weights: fp32; bf16, in half the memory; or auto, which is bf16 where the folder's have 16 bits and the device multiplies it.
        trust_remote_code: whether Python code that the folder brings with it may run.
    """

    pooling: PoolingMode | None = None
    normalize: bool | None = None
    prompts: dict[str, str] | None = None
    max_length: int | None = None
    dimensions: int | None = None
    weights: Weights = "fp32"
    trust_remote_code: bool = False


def complete_prompts(prompts: dict[str, str] | None) -> dict[str, str] | None:
    """The prompts of both roles where one was given; None, which leaves a folder's own, where none was."""
    if prompts is None:
        return None
    if unknown := set(prompts) - set(no_prompts()):
        raise BadInput(f"prompts: {', '.join(sorted(unknown))}: there is one for query and one for document")
    return no_prompts() | prompts
