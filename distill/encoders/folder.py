"""Loads encoders: by hub name, from a sentence-transformers folder, or from a plain transformers folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from distill.encoders.encoder import Encoder
from distill.encoders.hub import is_model, local_folder
from distill.encoders.model_options import ModelOptions, Weights, complete_prompts
from distill.encoders.modules import Normalize, Transformer, cut_vectors, output_width, split_modules
from distill.encoders.modules_folder import read_module_list, read_modules
from distill.encoders.pooling import Pooling, PoolingMode
from distill.encoders.tokenizer_settings import check_tokenizer
from distill.encoders.tokenizing import TextSettings, no_prompts, refuse_long_prompts
from distill.encoders.transformer_folder import choose_length, load_transformer
from distill.encoders.weights import choose_format
from distill.files.atomic import refuse_unreadable
from distill.records import BadInput


def load_encoder(
    name: str,
    pooling: PoolingMode | None = None,
    normalize: bool | None = None,
    prompts: dict[str, str] | None = None,
    trust_remote_code: bool = False,
    max_length: int | None = None,
    dimensions: int | None = None,
    weights: Weights = "fp32",
) -> Encoder:
    """Loads an encoder, in float32 unless `weights` says otherwise, on the CPU.

    Args:
        name: its folder or hub name.
        pooling: cls, mean or another mode of a `Pooling`. Set it and normalize for a plain transformers folder, which holds neither; leave
            it out for a sentence-transformers folder, which does.
        normalize: whether vectors are scaled to length 1. A sentence-transformers folder without a Normalize module that compares vectors
            by cosine, or does not say how, has them scaled; False ranks by inner products of any lengths.
        prompts: of queries and documents, in place of the folder's own, e.g. {"query": "query: ", "document": "passage: "}.
        trust_remote_code: whether Python code that the folder brings with it (auto_map) may run.
        max_length: tokens at which texts are cut, special tokens included; by default as the folder has it.
        dimensions: numbers to keep of each vector, the first ones; they are scaled to length 1 again where the folder does so.
        weights: fp32; bf16, in half the memory; or auto, which is bf16 where the folder's have 16 bits and the device multiplies it.

    Raises BadInput when `name` is neither a folder nor a reachable hub repository, where the folder cannot be read, and where its weights
    do not fit into memory.
    """
    return read_encoder(name, ModelOptions(pooling, normalize, prompts, max_length, dimensions, weights, trust_remote_code))


def read_encoder(name: str, options: ModelOptions) -> Encoder:
    """As `load_encoder`, with its options as one object."""
    options = replace(options, prompts=complete_prompts(options.prompts))
    with refuse_unreadable("a model folder", name):
        return _load(name, options)


def _load(name: str, options: ModelOptions) -> Encoder:
    folder = local_folder(name, options.trust_remote_code)
    if has_module_list(folder):
        if options.pooling is not None:
            raise BadInput(f"{name}: its modules.json says how it pools and normalises: leave pooling and normalize out")
        return Encoder(*read_modules(folder, read_module_list(folder), options))
    if not is_model(folder):
        inside = sorted(folder.glob("*/modules.json")) or sorted(folder.glob("*/*/modules.json"))
        fix = f"there is one in {inside[0].parent}" if inside else "give the folder that has one"
        raise BadInput(f"{name}: no model in this folder, neither modules.json nor config.json: {fix}")
    if options.pooling is None or options.normalize is None:
        raise BadInput(
            f"{name}: a plain transformers folder does not say how it pools: set pooling (e.g. cls, mean or lasttoken) and normalize"
        )
    backbone, tokenizer = load_transformer(folder, options.trust_remote_code, choose_format(folder, options.weights))
    check_tokenizer(folder, tokenizer, backbone)
    modules = [Transformer(backbone), Pooling(options.pooling), *([Normalize()] if options.normalize else [])]
    width = output_width(*split_modules(modules))
    settings = TextSettings(choose_length(backbone, tokenizer, None, options.max_length), options.prompts or no_prompts())
    refuse_long_prompts(tokenizer, settings)
    return Encoder(cut_vectors(modules, width, options.dimensions), tokenizer, settings)


def has_module_list(folder: Path) -> bool:
    """Whether a folder is one of sentence-transformers, which lists its modules, rather than a plain transformers folder."""
    return (folder / "modules.json").exists()
