"""Encoders to and from disk: a hub name, a sentence-transformers folder, or a plain transformers folder."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import logging

from distill.encoders.encoder import Dense, Encoder, Normalize, TextSettings
from distill.encoders.maker import Maker
from distill.encoders.pooling import Pooling
from distill.files.atomic import path_within, read_json, refuse_unreadable, write_atomically, write_json
from distill.records import BadInput

OLD_POOLING = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}  # as releases before 6 name them
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
SCORER = "ForSequenceClassification"  # what the name of a model with a classification head ends with
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]  # no ONNX, no TensorFlow, no pickles
MODULE_TYPES = "sentence_transformers.models"  # the module path that every release of sentence-transformers understands


def load_encoder(
    name: str, pooling: Pooling | None = None, normalize: bool | None = None, prompts: dict[str, str] | None = None
) -> Encoder:
    """Loads an encoder from a folder or a hub name, in float32 on the CPU.

    A sentence-transformers folder says itself how it pools and normalises; a plain transformers folder does not, so there
    `pooling` and `normalize` must be given. `prompts` of queries and documents take the place of the folder's own.
    Raises BadInput when `name` is neither a folder nor a reachable hub repository.
    """
    with refuse_unreadable("a model folder", name):
        return with_prompts(_opened(name, pooling, normalize), prompts)


def with_prompts(encoder: Encoder, prompts: dict[str, str] | None) -> Encoder:
    """The same encoder with other prompts, where there are any."""
    if prompts is not None:
        if unknown := set(prompts) - {"query", "document"}:
            raise BadInput(f"prompts: {', '.join(sorted(unknown))}: there is one for query and one for document")
        encoder.settings = replace(encoder.settings, prompts={"query": "", "document": ""} | prompts)
    return encoder


def _opened(name: str, pooling: Pooling | None, normalize: bool | None) -> Encoder:
    folder = local_folder(name)
    if (folder / "modules.json").exists():
        if pooling is not None or normalize is not None:
            raise BadInput(f"{name}: its modules.json says how it pools and normalises: leave pooling and normalize out")
        return _load_modules(folder)
    if pooling is None or normalize is None:
        raise BadInput(f"{name}: a plain transformers folder does not say how it pools: set pooling (cls or mean) and normalize")
    backbone, tokenizer = load_transformer(folder)
    settings = TextSettings(pooling, longest_text(backbone, tokenizer, {}))
    return Encoder(backbone, tokenizer, settings, [Normalize()] if normalize else [])


def local_folder(name: str) -> Path:
    """`name` itself when it is a folder, else the hub repository of that name, downloaded once."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client raises many kinds: no network, no such repository, no permission, no such name
        offline = ", HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise BadInput(f"{name}: no such folder, and the hub did not give it ({type(error).__name__}{offline}): pass a folder") from None


def is_available(maker: Maker) -> bool:
    """Whether the teacher that made a store can be loaded: a name that a user gave or an endpoint bears is not looked up."""
    try:
        return maker.is_loadable and local_folder(maker.name).is_dir()
    except BadInput:
        return False


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Writes `encoder` as a sentence-transformers folder, whole or not at all."""
    with write_atomically(folder) as temporary:
        parts = list(write_parts(encoder, temporary, transformer_path=""))
        write_json(temporary / "modules.json", [module_entry(i, path, kind) for i, (path, kind) in enumerate(parts)])
        write_json(temporary / "config_sentence_transformers.json", sentence_transformers_config(encoder.settings.prompts))


def write_parts(encoder: Encoder, folder: Path, transformer_path: str = "0_Transformer", prefix: str = "") -> Iterator[tuple[str, str]]:
    """Writes transformer, pooling and head below `folder`; yields (path, module type) of each, in the order they run."""
    yield prefix + transformer_path, "Transformer"
    _save_transformer(encoder, folder / (prefix + transformer_path))
    for position, layer in enumerate([None, *encoder.head], start=1):
        kind = "Pooling" if layer is None else type(layer).__name__
        path = folder / f"{prefix}{position}_{kind}"
        path.mkdir(parents=True)
        write_json(path / "config.json", _part_config(encoder, layer))
        if isinstance(layer, Dense):
            save_file({f"linear.{name}": tensor.contiguous() for name, tensor in layer.state_dict().items()}, path / "model.safetensors")
        yield path.name, kind


def module_entry(index: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": index, "name": str(index), "path": path, "type": f"{MODULE_TYPES}.{kind}"}


def sentence_transformers_config(prompts: dict[str, str]) -> dict[str, Any]:
    return {"model_type": "SentenceTransformer", "prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "dot"}


def _save_transformer(encoder: Encoder, folder: Path) -> None:
    logging.disable_progress_bar()
    encoder.backbone.save_pretrained(folder)
    encoder.tokenizer.model_max_length = encoder.settings.max_length  # where newer sentence-transformers look for it
    encoder.tokenizer.save_pretrained(folder)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": encoder.settings.max_length, "do_lower_case": False})


def _part_config(encoder: Encoder, layer: nn.Module | None) -> dict[str, Any]:
    if layer is None:
        return {
            "word_embedding_dimension": encoder.backbone.config.hidden_size,
            "pooling_mode_cls_token": encoder.settings.pooling == "cls",
            "pooling_mode_mean_tokens": encoder.settings.pooling == "mean",
        }
    if isinstance(layer, Dense):
        activation = type(layer.activation)
        return {
            "in_features": layer.in_features,
            "out_features": layer.out_features,
            "bias": layer.bias is not None,
            "activation_function": f"{activation.__module__}.{activation.__name__}",
        }
    return {}


def _load_modules(folder: Path) -> Encoder:
    """Reads a sentence-transformers folder module by module."""
    entries = read_json(folder / "modules.json", "module list")
    return load_parts(folder, [(entry["type"].rsplit(".", 1)[-1], path_within(folder, entry["path"])) for entry in entries])


def load_parts(folder: Path, parts: Sequence[tuple[str, Path]]) -> Encoder:
    """The encoder made of modules (kind, folder) in the order they run; prompts are those of the whole `folder`."""
    kinds = [kind for kind, _ in parts]
    unknown = set(kinds) - {"Transformer", "Pooling", "Dense", "Normalize"}
    if unknown or kinds[:2] != ["Transformer", "Pooling"]:
        raise BadInput(f"{folder / 'modules.json'}: {' > '.join(kinds)}: only Transformer > Pooling > Dense, Normalize can be read")
    backbone, tokenizer = load_transformer(parts[0][1])
    config = optional_json(parts[0][1] / "sentence_bert_config.json")
    if config.get("do_lower_case"):
        raise BadInput(f"{folder}: do_lower_case is not supported: lower-case in the tokenizer's normalizer instead")
    prompts = optional_json(folder / "config_sentence_transformers.json").get("prompts") or {}
    document = next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")
    settings = TextSettings(
        _pooling(parts[1][1]), longest_text(backbone, tokenizer, config), {"query": prompts.get("query", ""), "document": document}
    )
    return Encoder(backbone, tokenizer, settings, [_load_dense(path) if kind == "Dense" else Normalize() for kind, path in parts[2:]])


def load_transformer(folder: Path, scorer: bool = False, new_head: bool = False):
    """Backbone and tokenizer of a transformers folder, in float32 on the CPU; a `scorer` is the backbone with its classification head.

    With `new_head` a head that the folder lacks is made, of one score and random numbers; any other missing weight is refused.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    with refuse_unreadable_model(folder, "not a transformers model folder"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        if scorer and new_head and not (config.architectures or [""])[0].endswith(SCORER):
            config.num_labels = 1
        model_class, options = (AutoModelForSequenceClassification, {}) if scorer else (AutoModel, build_options(config))
        backbone, report = model_class.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True, **options)
    body = f"{backbone.base_model_prefix}."
    missing = [name for name in report["missing_keys"] if not new_head or (name.startswith(body) and ".pooler." not in name)]
    if missing:
        raise BadInput(f"{folder}: its weights lack {min(missing)}: random numbers would stand in their place")
    return backbone.eval(), tokenizer


@contextmanager
def refuse_unreadable_model(folder: Path, fault: str) -> Iterator[None]:
    """One line, `fault` first, for whatever transformers meets in a model folder; its own remarks are not shown."""
    if not any(found for name in TOKENIZER_FILES for found in folder.glob(name)):
        raise BadInput(f"{folder}: no tokenizer in it: copy its tokenizer.json here")  # transformers would make one that knows no word
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its report of unused and missing weights; those that matter are checked after it
    try:
        yield
    except (MemoryError, BadInput):
        raise
    except Exception as error:  # what transformers says of a folder that it did not expect has no end
        raise BadInput(f"{folder}: {fault}: {_first_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def build_options(config) -> dict[str, Any]:
    """How every backbone is built, from a checkpoint or from a config."""
    from transformers import MODEL_MAPPING

    model_class: Any = MODEL_MAPPING[type(config)]
    # pooling is ours; a pooler that the checkpoint lacks would be made of random numbers
    pooler = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(model_class).parameters else {}
    return pooler


def optional_json(path: Path) -> dict[str, Any]:
    return read_json(path, "settings") if path.exists() else {}


def longest_text(backbone, tokenizer, settings: dict[str, Any]) -> int:
    """The folder's own limit, or what the tokenizer and the position table allow."""
    positions = getattr(backbone.config, "max_position_embeddings", None) or 512
    if "roberta" in backbone.config.model_type or backbone.config.model_type == "mpnet":
        positions -= 2  # these families start counting positions after the padding id
    return int(min(settings.get("max_seq_length") or tokenizer.model_max_length, positions))


def _pooling(folder: Path) -> Pooling:
    config = read_json(folder / "config.json", "pooling settings")
    modes = [OLD_POOLING.get(key, key) for key, chosen in config.items() if key.startswith("pooling_mode_") and chosen is True]
    mode = config.get("pooling_mode") or "+".join(modes)
    if mode not in ("cls", "mean") or config.get("include_prompt") is False:
        raise BadInput(f"{folder / 'config.json'}: pooling {mode!r} is not supported: only cls or mean, prompt tokens included")
    return "cls" if mode == "cls" else "mean"


def _load_dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json", "dense layer settings")
    activation = config.get("activation_function", "Tanh").rsplit(".", 1)[-1]  # their default
    if activation not in ("Identity", "Tanh", "ReLU", "GELU"):
        raise BadInput(f"{folder / 'config.json'}: activation {activation!r} is not supported: Identity, Tanh, ReLU or GELU")
    if config.get("use_residual") or config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise BadInput(f"{folder / 'config.json'}: a dense layer with a residual or before pooling is not supported")
    weights = folder / "model.safetensors"
    try:
        layer = Dense(config["in_features"], config["out_features"], config.get("bias", True), activation)
        state = load_file(weights) if weights.exists() else torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        layer.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in state.items()})
    except (OSError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise BadInput(f"{folder}: the weights of this dense layer are missing or broken: {_first_line(error)}") from None
    return layer
