"""Loads and saves models of the transformers library with their tokenizer; encoders and cross encoders are built on them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from distill.files.atomic import read_json
from distill.records import BadInput

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
CLASSIFIER = "ForSequenceClassification"  # the name of a model with a classification head ends with it
LENGTH_SETTINGS = "sentence_bert_config.json"  # where sentence-transformers keeps the longest text of a transformer
NO_MODEL = "not a transformers model folder"
LOADING: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
DEFAULT_POSITIONS = 512  # of a model whose config names no number of positions


def load_transformer(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Backbone and tokenizer of a transformers folder, in float32 on the CPU, without a head.

    Raises BadInput where the folder is none, or lacks weights.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with refuse_unreadable_model(folder, NO_MODEL):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        backbone, report = AutoModel.from_pretrained(folder, config=config, **LOADING, **build_options(config))
    refuse_missing_weights(folder, report["missing_keys"])
    return backbone.eval(), tokenizer


def load_classifier(folder: Path, new_head: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """As `load_transformer`, with the classification head on it.

    With `new_head` a head that the folder lacks is made, of one score and random numbers; any other missing weight is refused.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    with refuse_unreadable_model(folder, NO_MODEL):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
        if new_head and not is_classifier(config.architectures):
            config.num_labels = 1
        model, report = AutoModelForSequenceClassification.from_pretrained(folder, config=config, **LOADING)
    missing = list(report["missing_keys"])
    if new_head:
        body = f"{model.base_model_prefix}."
        missing = [name for name in missing if name.startswith(body) and ".pooler." not in name]
    refuse_missing_weights(folder, missing)
    return model.eval(), tokenizer


def is_classifier(architectures: list[str] | None) -> bool:
    """Whether a config's `architectures` name a model with a classification head."""
    first = architectures[0] if architectures else ""
    return first.endswith(CLASSIFIER)


def refuse_missing_weights(folder: str | Path, names: list[str]) -> None:
    if names:
        raise BadInput(f"{folder}: its weights lack {min(names)}: random numbers would stand in their place")


def save_transformer(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, max_length: int, folder: Path) -> None:
    """Writes a folder that `load_transformer`, transformers and sentence-transformers read."""
    logging.disable_progress_bar()
    backbone.save_pretrained(folder)
    tokenizer.model_max_length = max_length  # where newer sentence-transformers look for it
    tokenizer.save_pretrained(folder)


@contextmanager
def refuse_unreadable_model(folder: Path, fault: str) -> Iterator[None]:
    """Turns any error of the block, in which transformers reads a folder, into a BadInput of one line with `fault`; silences its log."""
    if not any(path for name in TOKENIZER_FILES for path in folder.glob(name)):
        raise BadInput(f"{folder}: no tokenizer in it: copy its tokenizer.json here")  # transformers would make an empty one
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # hides its report of unused and missing weights; callers check those that matter
    try:
        yield
    except (MemoryError, BadInput):
        raise
    except Exception as error:  # transformers raises errors of any kind for a folder that it did not expect
        raise BadInput(f"{folder}: {fault}: {first_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or the name of its class where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def build_options(config: PretrainedConfig) -> dict[str, Any]:
    """Arguments with which every backbone is built, from a checkpoint or from a config."""
    from transformers import MODEL_MAPPING

    model_class: Any = MODEL_MAPPING[type(config)]
    # this package pools itself, and a pooler that the checkpoint lacks would be made of random numbers
    has_pooler = "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if has_pooler else {}


def optional_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; an empty one where there is no such file."""
    return read_json(path, "settings") if path.exists() else {}


def longest_text(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, limit: int | None = None) -> int:
    """Tokens of the longest text that a model reads: `limit` or the tokenizer's limit, but not more than the model has positions."""
    positions = getattr(backbone.config, "max_position_embeddings", None) or DEFAULT_POSITIONS
    if "roberta" in backbone.config.model_type or backbone.config.model_type == "mpnet":
        positions -= 2  # these families start counting positions after the padding id
    return int(min(limit or tokenizer.model_max_length, positions))
