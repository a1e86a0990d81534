"""Loads encoders: by hub name, from a sentence-transformers folder, or from a plain transformers folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distill.encoders.encoder import Encoder
from distill.encoders.hub import local_folder
from distill.encoders.modules import Normalize, Transformer
from distill.encoders.modules_folder import read_module_list, read_modules
from distill.encoders.pooling import Pooling, PoolingMode
from distill.encoders.tokenizing import TextSettings, no_prompts
from distill.encoders.transformer_folder import load_transformer, longest_text
from distill.files.atomic import refuse_unreadable
from distill.records import BadInput


def load_encoder(
    name: str, pooling: PoolingMode | None = None, normalize: bool | None = None, prompts: dict[str, str] | None = None
) -> Encoder:
    """Loads an encoder, in float32 on the CPU.

    Args:
        name: its folder or hub name.
        pooling: cls or mean. Set pooling and normalize for a plain transformers folder, which does not hold them; leave both out for a
            sentence-transformers folder, which does.
        normalize: whether vectors are scaled to length 1.
        prompts: of queries and documents, in place of the folder's own, e.g. {"query": "query: ", "document": "passage: "}.

    Raises BadInput when `name` is neither a folder nor a reachable hub repository, and where the folder cannot be read.
    """
    with refuse_unreadable("a model folder", name):
        return set_prompts(_load(name, pooling, normalize), prompts)


def set_prompts(encoder: Encoder, prompts: dict[str, str] | None) -> Encoder:
    """Puts other prompts before the texts of an encoder; None leaves its own."""
    if prompts is not None:
        if unknown := set(prompts) - set(no_prompts()):
            raise BadInput(f"prompts: {', '.join(sorted(unknown))}: there is one for query and one for document")
        encoder.settings = replace(encoder.settings, prompts=no_prompts() | prompts)
    return encoder


def _load(name: str, pooling: PoolingMode | None, normalize: bool | None) -> Encoder:
    folder = local_folder(name)
    if has_module_list(folder):
        if pooling is not None or normalize is not None:
            raise BadInput(f"{name}: its modules.json says how it pools and normalises: leave pooling and normalize out")
        return Encoder(*read_modules(folder, read_module_list(folder)))
    if pooling is None or normalize is None:
        raise BadInput(f"{name}: a plain transformers folder does not say how it pools: set pooling (cls or mean) and normalize")
    backbone, tokenizer = load_transformer(folder)
    head = [Normalize()] if normalize else []
    return Encoder([Transformer(backbone), Pooling(pooling), *head], tokenizer, TextSettings(longest_text(backbone, tokenizer)))


def has_module_list(folder: Path) -> bool:
    """Whether a folder is one of sentence-transformers, which lists its modules, rather than a plain transformers folder."""
    return (folder / "modules.json").exists()
