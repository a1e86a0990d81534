"""Loads cross encoders from disk.

One with a [CLS] head is a folder of `AutoModelForSequenceClassification`, which sentence-transformers' CrossEncoder reads too. One with
dual pooling is a plain transformers folder with its settings in `cross_encoder.json`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.encoders.cross import SETTINGS, ClsHead, CrossEncoder, CrossSettings, DualPooling, Head
from distill.encoders.folder import has_module_list
from distill.encoders.hub import local_folder
from distill.encoders.loading import optional_json
from distill.encoders.model_settings import MODEL_SETTINGS
from distill.encoders.modules_folder import TRANSFORMER, is_standard, read_module_list
from distill.encoders.tokenizing import LONGEST_UNASKED
from distill.encoders.transformer_folder import (
    is_classifier,
    load_classifier,
    load_transformer,
    longest_text,
)
from distill.encoders.transformer_settings import find_settings, read_max_length
from distill.files.atomic import path_within, refuse_unreadable
from distill.files.progress import log
from distill.records import BadInput


def load_cross_encoder(name: str) -> CrossEncoder:
    """Loads a cross encoder, in float32 on the CPU, by hub name or from a folder of this package, sentence-transformers or transformers.

    Raises BadInput where the folder does not score pairs: it embeds single texts, or tells three classes apart.
    """
    head: Head = "dual_pooling" if is_dual_pooled(local_folder(name)) else "cls"
    return new_cross_encoder(name, head, new_head=False)


def new_cross_encoder(
    name: str, head: Head, max_length: int | None = None, temperature: float | None = None, new_head: bool = True
) -> CrossEncoder:
    """A cross encoder to train, out of any transformer.

    Args:
        name: folder of an encoder, of a cross encoder or of a plain transformer, or a hub name.
        head: dual_pooling or cls.
        max_length: tokens of a pair, special tokens included; by default the folder's own, but at most 8,192.
        temperature: of dual pooling; by default the folder's own.
        new_head: where the folder lacks a [CLS] head, True makes one of random numbers, False refuses the folder.
    """
    with refuse_unreadable("a model folder", name):
        folder = find_transformer(local_folder(name))
        limit = read_max_length(folder, "sequence-classification" if is_own_head(folder) else "feature-extraction")
        backbone, tokenizer = load_classifier(folder, new_head) if head == "cls" else load_transformer(folder)
        longest = longest_text(backbone, tokenizer, limit)
        settings = read_settings(folder, head, min(LONGEST_UNASKED, longest))
        if max_length is None and settings.max_length < longest:
            log.info(f"{name}: pairs are cut at {settings.max_length:,} tokens, of {longest:,} that it reads")
        if max_length is not None:
            longest = longest_text(backbone, tokenizer, max_length)
            if max_length > longest:
                raise BadInput(f"{name}: max_length {max_length}: it reads at most {longest} tokens")
            settings = replace(settings, max_length=max_length)
        if temperature is not None:
            settings = replace(settings, temperature=temperature)
        if head == "dual_pooling":
            return DualPooling(backbone, tokenizer, settings)
        labels: int = backbone.config.num_labels  # type: ignore[assignment]
        if labels > 2:
            fix = "a cross encoder has one score, or two classes of which the second is relevant"
            raise BadInput(f"{name}: tells {labels} classes apart: {fix}")
        return ClsHead(backbone, tokenizer, settings)


def read_settings(folder: Path, head: Head, longest: int) -> CrossSettings:
    """The settings that a folder holds; without any, pairs have `longest` tokens."""
    settings: dict[str, Any] = optional_json(folder / SETTINGS).get("settings", {}) if head == "dual_pooling" else {}
    return CrossSettings(**{"max_length": longest, **settings})


def is_own_head(folder: Path) -> bool:
    """Whether the settings of a transformer say that it scores pairs by a head of its own, and not that it embeds texts."""
    return find_settings(folder)[1].get("transformer_task") == "sequence-classification"


def is_dual_pooled(folder: Path) -> bool:
    """Whether the folder holds a cross encoder with dual pooling."""
    return (folder / SETTINGS).exists()


def is_cross_encoder(folder: Path) -> bool:
    """Whether the folder scores pairs rather than embeds texts."""
    if is_dual_pooled(folder):
        return True
    with refuse_unreadable("a model folder", folder):
        if has_module_list(folder) and not _begins_with_transformer(folder):
            return False
        return is_classifier(optional_json(find_transformer(folder) / "config.json").get("architectures"))


def find_transformer(folder: Path) -> Path:
    """The folder of the transformer: a part of a sentence-transformers folder, or a plain transformers folder itself.

    Raises BadInput where the folder begins with something else, or is a cross encoder that does more than its transformer.
    """
    if not has_module_list(folder):
        return folder
    first, *others = read_module_list(folder)
    if not _begins_with_transformer(folder):
        raise BadInput(f"{folder / 'modules.json'}: begins with {first.type}, and not with a Transformer of sentence-transformers")
    settings = optional_json(folder / MODEL_SETTINGS)
    is_cross = settings.get("model_type") == "CrossEncoder"
    if is_cross and (others or settings.get("default_prompt_name")):
        raise BadInput(f"{folder}: a cross encoder with modules behind its transformer, or with a prompt, is not supported")
    return path_within(folder, first.path)


def _begins_with_transformer(folder: Path) -> bool:
    """Whether the first module of a sentence-transformers folder is its transformer, and not a router or a table of words."""
    entries = read_module_list(folder)
    return bool(entries) and entries[0].kind == TRANSFORMER and is_standard(entries[0])
