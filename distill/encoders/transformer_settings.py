"""The settings that sentence-transformers keeps beside a transformer: honoured, or refused where they would change a vector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tokenizers.normalizers import Lowercase, Sequence
from transformers import PreTrainedTokenizerFast

from distill.encoders.loading import is_known_attention, optional_json
from distill.records import BadInput, UnknownKind

Task = Literal["feature-extraction", "sequence-classification"]

LENGTH_SETTINGS = "sentence_bert_config.json"  # where sentence-transformers keeps the longest text of a transformer
# it reads the first of these that holds anything
SETTINGS_FILES = (
    LENGTH_SETTINGS,
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# arguments of from_pretrained that change no vector beyond its rounding, or that sentence-transformers replaces by its caller's
HARMLESS_ARGUMENTS = {
    "add_pooling_layer",
    "cache_dir",
    "device_map",
    "dtype",
    "local_files_only",
    "low_cpu_mem_usage",
    "revision",
    "subfolder",
    "token",
    "torch_dtype",
    "trust_remote_code",
    "use_cache",
    "use_fast",
    "use_safetensors",
}
ATTENTION = "attn_implementation"
OUTPUTS: dict[Task, tuple[str, str]] = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
}


def read_max_length(folder: Path, task: Task = "feature-extraction") -> int | None:
    """Reads the longest text, in tokens, that the folder of a transformer sets; None where it sets none.

    Raises:
        UnknownKind: where another of its settings would give other vectors, or scores, than this package computes.
        BadInput: where the length is no length.
    """
    path, settings = find_settings(folder)
    for key, value in settings.items():
        if not _changes_nothing(key, value, settings, task):
            refuse_kernels(path, key, value)
            fix = "it changes what the model computes: take a folder without it"
            raise UnknownKind(f"{path}: {key} is not supported ({value!r}): {fix}")
    limit = settings.get("max_seq_length")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise BadInput(f"{path}: max_seq_length: {limit!r}: set a number of tokens, or null")
    return limit


def lower_case(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Lets a tokenizer read texts in lower case where the settings of its folder want it, as sentence-transformers does."""
    core = tokenizer.backend_tokenizer
    parts: list[Any] = list(iter(core.normalizer)) if isinstance(core.normalizer, Sequence) else [core.normalizer]
    has_it = any(isinstance(part, Lowercase) for part in parts)
    if find_settings(folder)[1].get("do_lower_case") and not has_it:
        core.normalizer = Sequence([Lowercase(), *([] if core.normalizer is None else [core.normalizer])])


def reads_lower_case(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the first thing that a tokenizer does to a text is to lower its case, which not every class of them remembers when saved."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    first = next(iter(normalizer), None) if isinstance(normalizer, Sequence) else normalizer
    return isinstance(first, Lowercase)


def refuse_kernels(path: Path, key: str, value: Any) -> None:
    """BadInput where arguments name an attention that is code to be downloaded, which no other library shall be asked to run either."""
    attention = value.get(ATTENTION) if isinstance(value, dict) else None
    if not is_known_attention(attention):
        raise BadInput(f"{path}: {key}: {ATTENTION}: {attention!r} is code to be downloaded: set eager or sdpa")


def find_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file of a transformer's settings under one of its seven names, and what it holds; nothing where there is none."""
    for name in SETTINGS_FILES:
        settings = optional_json(folder / name)
        if settings:
            return folder / name, settings
    return folder / SETTINGS_FILES[0], {}


def _changes_nothing(key: str, value: Any, settings: dict[str, Any], task: Task) -> bool:
    """Whether a setting leaves vectors, or scores, as they would be without it."""
    if key == "transformer_task":
        return value == task
    if key == "modality_config":
        return _reads_plain_text(value, task) and "module_output_name" in settings
    if key == "module_output_name":  # without a modality_config it is not read
        return value == OUTPUTS[task][1] or "modality_config" not in settings
    return key in CHECKS and CHECKS[key](value)


def _reads_plain_text(modalities: Any, task: Task) -> bool:
    """Whether texts go through the model's forward as they are, and not through a chat template."""
    if not isinstance(modalities, dict) or "message" in modalities:
        return False
    text = modalities.get("text")
    return isinstance(text, dict) and text.get("method") == "forward" and text.get("method_output_name") in _names(OUTPUTS[task][0])


def _names(output: str) -> list[Any]:
    return [output, [output]]


def _are_harmless_arguments(arguments: Any) -> bool:
    """Whether arguments of from_pretrained leave the vectors as they are."""
    if not arguments:
        return True
    if not isinstance(arguments, dict):
        return False
    return is_known_attention(arguments.get(ATTENTION)) and set(arguments) <= HARMLESS_ARGUMENTS | {ATTENTION}


def _leaves_texts(processing: Any) -> bool:
    """Whether arguments of the processor's call change nothing for texts."""
    if not processing:
        return True
    return isinstance(processing, dict) and not processing.get("common") and not processing.get("text")


CHECKS: dict[str, Callable[[Any], bool]] = {
    "max_seq_length": lambda value: True,  # checked by itself
    "do_lower_case": lambda value: isinstance(value, bool | None),  # read by itself
    "tokenizer_name_or_path": lambda value: value is None,
    "unpad_inputs": lambda value: True,
    "backend": lambda value: True,  # that of the caller takes its place
    "processing_kwargs": _leaves_texts,
    "query_length": lambda value: value is None,
    "document_length": lambda value: value is None,
    "query_expansion": lambda value: value is None,
    **dict.fromkeys(
        ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"), _are_harmless_arguments
    ),
}
