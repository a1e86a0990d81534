"""The weights in a model's folder: how many there are, in which number format, and whether they fit into memory."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from distill.encoders.loading import optional_json
from distill.encoders.model_options import Weights
from distill.files.device import best_device, free_memory, has_fast_bf16
from distill.records import BadInput, one_line

SHARDS = "model.safetensors.index.json"  # names the file of each weight where there are several
SIXTEEN_BITS = {"F16", "BF16"}  # as safetensors files call them
UNREAD = ("lm_head.", "decoder.")  # beginnings of the names of weights that an encoder leaves in its file: T5's decoder, for one
GIB = 2**30


def count_weights(folder: Path) -> Counter[str]:
    """Counts the weights in the safetensors files of a model by number format; those of older files by the format in its config.json."""
    counts: Counter[str] = Counter()
    shards = optional_json(folder / SHARDS).get("weight_map", {})
    for path in {folder / name for name in shards.values()} or {folder / "model.safetensors"}:
        if not path.exists():
            continue
        try:
            with safe_open(path, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118, the file is no mapping
                    if not name.startswith(UNREAD):
                        part = weights.get_slice(name)
                        counts[part.get_dtype()] += math.prod(part.get_shape())
        except SafetensorError as error:
            raise BadInput(f"{path}: damaged ({one_line(error)}): restore it") from None
    if not counts:
        config = optional_json(folder / "config.json")
        is_short = (config.get("dtype") or config.get("torch_dtype")) in ("float16", "bfloat16")
        size = sum(path.stat().st_size for path in folder.glob("pytorch_model*.bin"))
        counts["F16" if is_short else "F32"] = size // (2 if is_short else 4)
    return counts


def choose_format(folder: Path, weights: Weights) -> torch.dtype:
    """Chooses the number format of the weights of the model in `folder`.

    `auto` is bf16 where most of them are stored in 16 bits, and this machine multiplies bf16 natively.
    """
    if weights == "auto":
        counts = count_weights(folder)
        is_short = 2 * sum(counts[name] for name in SIXTEEN_BITS) > counts.total()
        weights = "bf16" if is_short and has_fast_bf16(best_device().type) else "fp32"
    return torch.bfloat16 if weights == "bf16" else torch.float32


def refuse_too_large(folder: Path, dtype: torch.dtype) -> None:
    """Raises BadInput where the weights in `folder` need more memory than is free, before any is read."""
    count = count_weights(folder).total()
    needed, free = count * dtype.itemsize, free_memory(torch.device("cpu"))
    if best_device().type == "cuda":
        free = min(free or sys.maxsize, free_memory(best_device()) or sys.maxsize)
    if free is None or needed <= free:
        return
    fix = "take a smaller model, or a machine with more memory"
    if dtype == torch.float32 and needed / 2 <= free:
        fix = "weights: bf16 takes half of it"
    raise BadInput(f"{folder}: its {count / 1e9:.3g} billion weights take {needed / GIB:.1f} GiB, {free / GIB:.1f} GiB are free: {fix}")
