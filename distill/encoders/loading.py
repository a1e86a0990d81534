"""What a transformers folder asks for beyond weights and a tokenizer: code of its own, adapters, quantised weights, kernels."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from distill.files.atomic import read_json
from distill.files.fingerprints import fingerprint
from distill.records import BadInput, UnknownKind

CONFIG = "config.json"
CODE_FILES = (CONFIG, "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
ADAPTER = "adapter_config.json"
REMOTE_MODULES = "transformers_modules"  # the package into which transformers copies the code of folders
# every other value names a kernel to be downloaded; how attention is computed changes nothing but rounding
ATTENTIONS = {None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"}
ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "attention_implementation")

trusted_folders: set[Path] = set()  # those whose code the user has let run in this process


def optional_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; an empty one where there is no such file."""
    settings = read_json(path, "settings") if path.exists() else {}
    if not isinstance(settings, dict):
        raise BadInput(f"{path}: holds {type(settings).__name__}, not an object of settings: restore it")
    return settings


def check_folder(folder: Path, auto_class: str, trust_remote_code: bool = False) -> None:
    """Refuses a transformers folder that asks for more than its weights and tokenizer.

    Args:
        folder: the folder, before anything of it is loaded.
        auto_class: what will be loaded, e.g. AutoModel.
        trust_remote_code: whether Python code of the folder may run.

    Raises:
        BadInput: where the folder names code, and that is not trusted.
        UnknownKind: where its weights are quantised, or those of an adapter.
    """
    if (folder / ADAPTER).exists():
        fix = "merge it into its base model (merge_and_unload of PEFT) and save that"
        raise UnknownKind(f"{folder / ADAPTER}: the weights of an adapter are not read: {fix}")
    config = optional_json(folder / CONFIG)
    if config.get("quantization_config"):
        raise UnknownKind(f"{folder / CONFIG}: quantization_config: quantised weights are not read: take the model they were made from")
    for key in ATTENTION_KEYS:
        if not is_known_attention(config.get(key)):
            raise BadInput(f"{folder / CONFIG}: {key}: {config[key]!r} is code to be downloaded: set eager or sdpa")
    if trust_remote_code:
        trusted_folders.add(folder.resolve())
    else:
        refuse_remote_code(folder, auto_class)


def is_known_attention(value: Any) -> bool:
    """Whether a setting of the attention names one that transformers itself computes."""
    return value is None or (isinstance(value, str) and value in ATTENTIONS)


def refuse_remote_code(folder: Path, auto_class: str) -> None:
    """Refuses a folder whose auto_map names Python code for what will be loaded."""
    classes = {"AutoConfig", "AutoTokenizer", "AutoProcessor", auto_class}
    for name in CODE_FILES:
        auto_map = optional_json(folder / name).get("auto_map")
        if not auto_map:
            continue
        # older tokenizers name theirs without a key
        code = {key: auto_map[key] for key in sorted(classes & set(auto_map))} if isinstance(auto_map, dict) else {"": auto_map}
        for value in code.values():
            fix = "read it, then encode or shrink with --trust_remote_code true"
            raise BadInput(f"{folder / name}: its auto_map names code, {value}, which runs only where you trust it: {fix}")


def find_remote_class(config: PretrainedConfig, folder: Path, auto_class: str) -> Any | None:
    """The class that a trusted folder's own code defines; None where transformers' own is meant."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    reference = (getattr(config, "auto_map", None) or {}).get(auto_class)
    return get_class_from_dynamic_module(reference, str(folder)) if reference else None


def is_remote(value: Any) -> bool:
    """Whether an object is of a class that the code of a model's folder defines."""
    return type(value).__module__.split(".")[0] == REMOTE_MODULES


def code_fingerprint(backbone: nn.Module, tokenizer: Any) -> str | None:
    """16 hex digits over the code of a folder that a model and its tokenizer run; None where they run none."""
    names = {type(part).__module__ for part in (tokenizer, *backbone.modules()) if is_remote(part)}
    if not names:
        return None
    # the name of the module holds a hash of the folder's path: the same code is the same in every folder
    return fingerprint(*sorted(inspect.getsource(sys.modules[name]) for name in names))
