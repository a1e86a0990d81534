"""Loads encoders: by hub name, from a sentence-transformers folder, or from a plain transformers folder."""

from __future__ import annotations

from pathlib import Path

from distill.encoders.encoder import Encoder
from distill.encoders.hub import is_model, local_folder
from distill.encoders.modules import Normalize, Transformer
from distill.encoders.modules_folder import read_module_list, read_modules
from distill.encoders.pooling import Pooling, PoolingMode
from distill.encoders.tokenizing import TextSettings, no_prompts
from distill.encoders.transformer_folder import load_transformer, longest_text
from distill.files.atomic import refuse_unreadable
from distill.records import BadInput


def load_encoder(
    name: str,
    pooling: PoolingMode | None = None,
    normalize: bool | None = None,
    prompts: dict[str, str] | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Loads an encoder, in float32 on the CPU.

    Args:
        name: its folder or hub name.
        pooling: cls, mean or another mode of a `Pooling`. Set it and normalize for a plain transformers folder, which holds neither; leave
            it out for a sentence-transformers folder, which does.
        normalize: whether vectors are scaled to length 1. A sentence-transformers folder without a Normalize module that compares vectors
            by cosine, or does not say how, has them scaled; False ranks by inner products of any lengths.
        prompts: of queries and documents, in place of the folder's own, e.g. {"query": "query: ", "document": "passage: "}.
        trust_remote_code: whether Python code that the folder brings with it (auto_map) may run.

    Raises BadInput when `name` is neither a folder nor a reachable hub repository, and where the folder cannot be read.
    """
    with refuse_unreadable("a model folder", name):
        return _load(name, pooling, normalize, complete_prompts(prompts), trust_remote_code)


def complete_prompts(prompts: dict[str, str] | None) -> dict[str, str] | None:
    """The prompts of both roles where one was given; None, which leaves a folder's own, where none was."""
    if prompts is None:
        return None
    if unknown := set(prompts) - set(no_prompts()):
        raise BadInput(f"prompts: {', '.join(sorted(unknown))}: there is one for query and one for document")
    return no_prompts() | prompts


def _load(
    name: str, pooling: PoolingMode | None, normalize: bool | None, prompts: dict[str, str] | None, trust_remote_code: bool
) -> Encoder:
    folder = local_folder(name, trust_remote_code)
    if has_module_list(folder):
        if pooling is not None:
            raise BadInput(f"{name}: its modules.json says how it pools and normalises: leave pooling and normalize out")
        return Encoder(*read_modules(folder, read_module_list(folder), normalize, prompts, trust_remote_code))
    if not is_model(folder):
        inside = sorted(folder.glob("*/modules.json")) or sorted(folder.glob("*/*/modules.json"))
        fix = f"there is one in {inside[0].parent}" if inside else "give the folder that has one"
        raise BadInput(f"{name}: no model in this folder, neither modules.json nor config.json: {fix}")
    if pooling is None or normalize is None:
        raise BadInput(
            f"{name}: a plain transformers folder does not say how it pools: set pooling (e.g. cls, mean or lasttoken) and normalize"
        )
    backbone, tokenizer = load_transformer(folder, trust_remote_code)
    head = [Normalize()] if normalize else []
    settings = TextSettings(longest_text(backbone, tokenizer), prompts or no_prompts())
    return Encoder([Transformer(backbone), Pooling(pooling), *head], tokenizer, settings)


def has_module_list(folder: Path) -> bool:
    """Whether a folder is one of sentence-transformers, which lists its modules, rather than a plain transformers folder."""
    return (folder / "modules.json").exists()
