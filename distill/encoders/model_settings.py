"""What a sentence-transformers folder says of the model as a whole: prompts, and how two vectors are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from distill.encoders.loading import optional_json
from distill.encoders.modules import Normalize
from distill.encoders.prompt_names import DOCUMENT_PROMPTS
from distill.files.atomic import write_json
from distill.files.progress import log
from distill.records import BadInput, UnknownKind

MODEL_SETTINGS = "config_sentence_transformers.json"
MODEL_TYPE = "SentenceTransformer"  # of a model that embeds single texts; folders of older releases do not say it
COSINE, DOT, EUCLIDEAN = "cosine", "dot", "euclidean"


def write_settings(folder: Path, prompts: dict[str, str]) -> None:
    """Writes the settings of the whole model, beyond its modules, for sentence-transformers."""
    settings = {"model_type": MODEL_TYPE, "prompts": prompts, "default_prompt_name": None, "similarity_fn_name": DOT}
    write_json(folder / MODEL_SETTINGS, settings)


def read_prompts(folder: Path) -> dict[str, str]:
    """The prompts of queries and documents that a folder sets, under any of the names that sentence-transformers knows.

    Raises:
        BadInput: where a prompt is no text, and where a default prompt might be meant for a role that has none of its own.
    """
    path, settings = folder / MODEL_SETTINGS, optional_json(folder / MODEL_SETTINGS)
    prompts = settings.get("prompts") or {}
    for name, prompt in prompts.items():
        if not isinstance(prompt, str | None):
            raise BadInput(f"{path}: prompts: {name}: {prompt!r} is no text: write it in quotes")
    document = next((name for name in DOCUMENT_PROMPTS if prompts.get(name)), "document")
    by_role = {"query": prompts.get("query") or "", "document": prompts.get(document) or ""}
    if document != "document":
        other = "encode_document of sentence-transformers 6 does not"
        log.warning(f"{path}: prompts: {document}: is read before documents, which {other}: name it document, or give --prompts")
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise BadInput(f"{path}: default_prompt_name: {default!r} is none of its prompts: {', '.join(prompts) or 'it has none'}")
    unnamed = [role for role, names in (("query", ("query",)), ("document", DOCUMENT_PROMPTS)) if not set(names) & set(prompts)]
    if default is not None and prompts[default] and unnamed:
        reason = f"default_prompt_name: {default}, and no prompt for a {unnamed[0]}"
        raise BadInput(f"{path}: {reason}: give each role its own under prompts: query and document, which may be empty")
    return by_role


def choose_query_prompt(folder: Path, name: str, prompts: dict[str, str] | None) -> dict[str, str]:
    """The prompts of both roles, that of queries by its name in the folder.

    Args:
        folder: the model's folder.
        name: of one of its prompts, as config_sentence_transformers.json lists them.
        prompts: of documents, as the user has it; by default the folder's.
    """
    named = optional_json(folder / MODEL_SETTINGS).get("prompts") or {}
    if name not in named:
        raise BadInput(f"query_prompt_name: {name}: no prompt of {folder}: {', '.join(named) or 'it has none'}")
    if "query" in (prompts or {}):
        raise BadInput("query_prompt_name: prompts has the text of the query's prompt: leave one of both out")
    return {**(read_prompts(folder) if prompts is None else prompts), "query": named[name] or ""}


def read_dimensions(folder: Path, width: int) -> int | None:
    """How many numbers a folder keeps of each vector; None where all.

    Args:
        folder: the model's folder.
        width: numbers in a vector of its last module.

    Raises UnknownKind where the model is no encoder of single texts.
    """
    path, settings = folder / MODEL_SETTINGS, optional_json(folder / MODEL_SETTINGS)
    model_type = settings.get("model_type") or MODEL_TYPE
    if model_type != MODEL_TYPE:
        raise UnknownKind(f"{path}: model_type: {model_type}: not a model that embeds single texts as one vector: take one that does")
    length = settings.get("truncate_dim")
    if length is None:
        return None
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise BadInput(f"{path}: truncate_dim: {length!r}: set how many of the {width} numbers of a vector to keep, or null")
    return min(length, width)


def add_scaling(folder: Path, modules: Sequence[nn.Module], normalize: bool | None) -> list[nn.Module]:
    """Adds a Normalize module to those of a folder whose model compares vectors by cosine, so that inner products rank as it does.

    Args:
        folder: the model's folder.
        modules: its modules, in the order they run.
        normalize: True or False as the user has it; None as the folder has it, which means cosine where it says nothing, as
            sentence-transformers has it.

    Raises:
        UnknownKind: where inner products cannot rank as the model does.
    """
    path, similarity = folder / MODEL_SETTINGS, optional_json(folder / MODEL_SETTINGS).get("similarity_fn_name")
    is_unit = isinstance(modules[-1], Normalize)
    if normalize is not None:
        if is_unit:
            raise BadInput(f"{folder}: its modules.json says how it pools and normalises: leave pooling and normalize out")
        return [*modules, Normalize()] if normalize else list(modules)
    if similarity not in (None, COSINE, DOT, EUCLIDEAN) or (similarity == EUCLIDEAN and not is_unit):
        reason = "inner products, by which documents are ranked here, give another ranking"
        raise UnknownKind(f"{path}: similarity_fn_name: {similarity}: {reason}: set normalize to true (cosine) or false to rank by them")
    if similarity == DOT or is_unit:
        return list(modules)
    said = "cosine" if similarity else "none, which means cosine"
    log.warning(f"{path}: similarity_fn_name: {said}: vectors are scaled to length 1; normalize: false keeps their lengths, to rank by dot")
    return [*modules, Normalize()]


def scale_functions(model: Any, functions: dict[Any, Any]) -> dict[Any, Any]:
    """Scales the vectors of a SentenceTransformer object that compares them by cosine, as `add_scaling` does with a folder's."""
    import numpy as np

    similarity = getattr(model, "similarity_fn_name", None)
    is_cut = getattr(model, "truncate_dim", None) is not None  # behind the last module
    is_unit = not is_cut and isinstance(model, nn.Sequential) and len(model) > 0 and type(model[-1]).__name__ == Normalize.__name__
    if not isinstance(similarity, str) or similarity == DOT or (is_unit and similarity in (COSINE, EUCLIDEAN)):
        return functions
    if similarity != COSINE:
        reason = "ranks otherwise than inner products: set it to cosine or dot"
        raise BadInput(f"{type(model).__name__}: similarity_fn_name: {similarity}: {reason}")
    log.warning(f"{type(model).__name__}: similarity_fn_name: cosine: vectors are scaled to length 1; set it to dot to keep their lengths")

    def scale(function: Any) -> Any:
        def encode(texts: list[str]) -> Any:
            vectors = np.asarray(function(texts), np.float32)
            return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

        return encode

    return {role: scale(function) for role, function in functions.items()}
