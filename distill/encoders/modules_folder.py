"""Writes and reads the modules of an encoder as a sentence-transformers folder: one folder a module, and modules.json that lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from distill.encoders.model_options import ModelOptions
from distill.encoders.model_settings import add_scaling, read_dimensions, read_prompts, write_settings
from distill.encoders.modules import (
    SENTENCE_TRANSFORMERS,
    Dense,
    EncoderModule,
    FirstModule,
    Normalize,
    Transformer,
    Truncate,
    cut_vectors,
    output_width,
    split_modules,
)
from distill.encoders.pooling import Pooling
from distill.encoders.static_folder import read_table, write_table
from distill.encoders.static_rows import STATIC
from distill.encoders.token_table import TokenTable
from distill.encoders.tokenizer_settings import check_tokenizer
from distill.encoders.tokenizing import TextSettings, refuse_long_prompts
from distill.encoders.transformer_folder import (
    choose_length,
    first_line,
    load_transformer,
    save_transformer,
)
from distill.encoders.transformer_settings import LENGTH_SETTINGS, read_max_length, reads_lower_case
from distill.encoders.weights import choose_format
from distill.files.atomic import path_within, read_json, write_atomically, write_json
from distill.records import BadInput, UnknownKind

TRANSFORMER, POOLING, DROPOUT = "Transformer", "Pooling", "Dropout"
ROUTER_SETTINGS = "router_config.json"  # only in a folder of two towers


@dataclass(frozen=True)
class ModuleEntry:
    """A module of a folder."""

    type: str  # the path of its class, as modules.json names it
    path: str  # folder of the module, below the encoder's folder

    @property
    def kind(self) -> str:
        """The name of the class alone."""
        return self.type.rsplit(".", 1)[-1]


def read_module_list(folder: Path) -> list[ModuleEntry]:
    """The modules that modules.json lists, in the order they run."""
    entries = read_json(folder / "modules.json", "module list")
    names = [entry["name"] for entry in entries if "name" in entry]
    if len(set(names)) < len(names):  # sentence-transformers would run the last of each name
        raise BadInput(f"{folder / 'modules.json'}: two modules have one name: give each its own")
    return [ModuleEntry(entry["type"], entry["path"]) for entry in entries]


def write_module_list(folder: Path, entries: Sequence[ModuleEntry]) -> None:
    """Writes modules.json as sentence-transformers does."""
    modules = [{"idx": i, "name": str(i), "path": entry.path, "type": entry.type} for i, entry in enumerate(entries)]
    write_json(folder / "modules.json", modules)


def save_modules(modules: Sequence[nn.Module], tokenizer: PreTrainedTokenizerFast, settings: TextSettings, folder: Path) -> None:
    """Writes an encoder's folder, whole or not at all."""
    with write_atomically(folder) as temporary:
        write_module_list(temporary, write_modules(modules, tokenizer, settings, temporary, transformer_path=""))
        write_settings(temporary, settings.prompts)


def write_modules(
    modules: Sequence[nn.Module],
    tokenizer: PreTrainedTokenizerFast,
    settings: TextSettings,
    folder: Path,
    transformer_path: str = "0_Transformer",
    prefix: str = "",
) -> list[ModuleEntry]:
    """Writes each module below `folder`, the names of their folders beginning with `prefix`; returns them in the order they run."""
    first, pooling, head = split_modules(modules)
    if isinstance(first, TokenTable):
        entries = [ModuleEntry(f"{SENTENCE_TRANSFORMERS}.{STATIC}", f"{prefix}0_{STATIC}")]  # which is the mean too
        write_table(first, tokenizer, settings.max_length, folder / entries[0].path)
    else:
        entries = [
            ModuleEntry(f"{SENTENCE_TRANSFORMERS}.{TRANSFORMER}", prefix + transformer_path),
            ModuleEntry(f"{SENTENCE_TRANSFORMERS}.{POOLING}", f"{prefix}1_{POOLING}"),
        ]
        transformer, second = (folder / entry.path for entry in entries)
        save_transformer(first.backbone, tokenizer, settings.max_length, transformer)
        write_json(transformer / LENGTH_SETTINGS, {"max_seq_length": settings.max_length, "do_lower_case": reads_lower_case(tokenizer)})
        second.mkdir(parents=True)
        write_json(second / "config.json", pooling.config(first.width))
    for position, module in enumerate(head, start=len(entries)):
        entry = ModuleEntry(module.type_name, f"{prefix}{position}_{type(module).__name__}")
        write_module(module, folder / entry.path)
        entries.append(entry)
    return entries


def write_module(module: EncoderModule, folder: Path) -> None:
    """Writes the arguments and weights of one module into its own folder."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", module.config())
    weights = {module.name_in_file(name): tensor.contiguous() for name, tensor in module.state_dict().items()}
    if weights:
        save_file(weights, folder / "model.safetensors")


def read_modules(
    folder: Path, entries: Sequence[ModuleEntry], options: ModelOptions
) -> tuple[list[nn.Module], PreTrainedTokenizerFast, TextSettings]:
    """The modules of a folder, their tokenizer, and the settings of its texts.

    Args:
        folder: a sentence-transformers folder.
        entries: those of its modules that follow one another.
        options: what the user has set.

    Raises BadInput where a module is of a class that this package does not know and no imported package defines.
    """
    entries = [entry for entry in entries if not (is_standard(entry) and entry.kind == DROPOUT)]  # which does nothing outside training
    kinds = [entry.kind if is_standard(entry) else entry.type for entry in entries]
    is_static = kinds[:1] == [STATIC]
    if not is_static and kinds[:2] != [TRANSFORMER, POOLING]:
        beginnings = f"{TRANSFORMER} > {POOLING}, or with {STATIC}"
        raise UnknownKind(f"{folder / 'modules.json'}: {' > '.join(kinds)}: an encoder begins with {beginnings}")
    count = 1 if is_static else 2  # of modules up to the vector of a text
    classes = [find_module_class(folder, entry, kinds) for entry in entries[count:]]
    paths = [path_within(folder, entry.path) for entry in entries]
    prompts = read_prompts(folder) if options.prompts is None else options.prompts
    first: FirstModule
    if is_static:
        first, tokenizer, length = read_table(paths[0], options.weights, options.max_length)
        pooling = Pooling("mean")
    else:
        first, pooling, tokenizer, length = read_transformer(paths[0], paths[1], options)
    settings = TextSettings(length, prompts)
    refuse_long_prompts(tokenizer, settings)
    head = [read_module(module_class, path) for module_class, path in zip(classes, paths[count:], strict=True)]
    width = output_width(first, pooling, head)
    modules: list[nn.Module] = [first, pooling, *head]
    own_dimensions = read_dimensions(folder, width)
    if options.dimensions is not None:
        modules = cut_vectors(modules, width, options.dimensions)
    elif own_dimensions not in (None, width):
        modules.append(Truncate(width, own_dimensions))  # add_scaling tells whether they are scaled again
    return add_scaling(folder, modules, options.normalize), tokenizer, settings


def read_transformer(
    folder: Path, pooling_folder: Path, options: ModelOptions
) -> tuple[Transformer, Pooling, PreTrainedTokenizerFast, int]:
    """A transformer, the pooling behind it, its tokenizer and the tokens at which texts are cut."""
    limit, pooling = read_max_length(folder), read_pooling(pooling_folder)
    backbone, tokenizer = load_transformer(folder, options.trust_remote_code, choose_format(folder, options.weights))
    check_tokenizer(folder, tokenizer, backbone)
    return Transformer(backbone), pooling, tokenizer, choose_length(backbone, tokenizer, limit, options.max_length)


def is_standard(entry: ModuleEntry) -> bool:
    """Whether sentence-transformers defines the module; the path of its class differs between its releases."""
    return entry.type.startswith("sentence_transformers.")


def find_module_class(folder: Path, entry: ModuleEntry, kinds: Sequence[str]) -> type[EncoderModule]:
    """The class of a module behind pooling, out of those that are imported already: a folder must not choose what is imported."""
    type_name = f"{SENTENCE_TRANSFORMERS}.{entry.kind}" if is_standard(entry) else entry.type
    if type_name in EncoderModule.classes:
        return EncoderModule.classes[type_name]
    if is_standard(entry):
        ours = [name.rsplit(".", 1)[-1] for name in EncoderModule.classes if name.startswith(SENTENCE_TRANSFORMERS)]
        raise UnknownKind(f"{folder / 'modules.json'}: {' > '.join(kinds)}: behind pooling only {', '.join(ours)} can be read")
    raise UnknownKind(f"{folder / 'modules.json'}: its module {entry.type} is not known here: import the package that defines it first")


def read_pooling(folder: Path) -> Pooling:
    """The pooling module in `folder`."""
    config = read_json(folder / "config.json", "pooling settings")
    try:
        return Pooling.from_config(config)
    except BadInput as error:
        raise type(error)(f"{folder / 'config.json'}: {error}") from None


def read_module(module_class: type[EncoderModule], folder: Path) -> EncoderModule:
    """A module behind pooling, with its weights."""
    kind = module_class.__name__
    path = folder / "config.json"
    # old releases of sentence-transformers wrote no settings of Normalize
    has_none = module_class is Normalize and not path.exists()
    config: dict[str, Any] = {} if has_none else read_json(path, f"settings of this {kind} module")
    try:
        module = module_class.from_config(config)
        if module.state_dict():
            weights, names = _read_weights(folder), {module.name_in_file(name): name for name in module.state_dict()}
            module.load_state_dict({names.get(name, name): tensor for name, tensor in weights.items()})
    except BadInput as error:
        raise type(error)(f"{folder / 'config.json'}: {error}") from None
    except (OSError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise BadInput(f"{folder}: the weights of this {kind} module are missing or broken: {first_line(error)}") from None
    return Truncate.from_dense(module) if isinstance(module, Dense) else module


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path, old_path = folder / "model.safetensors", folder / "pytorch_model.bin"
    return load_file(path) if path.exists() else torch.load(old_path, map_location="cpu", weights_only=True)
