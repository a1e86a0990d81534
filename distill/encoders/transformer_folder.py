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

from distill.encoders.loading import check_folder, find_remote_class
from distill.encoders.model_checks import count_positions, count_table_rows, fit_tokenizer, try_backbone, try_classifier
from distill.encoders.transformer_settings import lower_case
from distill.encoders.weights import refuse_too_large
from distill.records import BadInput, is_out_of_memory

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
CLASSIFIER = "ForSequenceClassification"  # the name of a model with a classification head ends with it
NO_MODEL = "not a transformers model folder"
LOADING: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
UNLIMITED = 2**31 - 1  # tokens of a text for a model without a longest one
ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}  # classes that read texts without their decoder, of families whose whole model needs more than a text


def load_transformer(
    folder: Path, trust_remote_code: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Backbone and tokenizer of a transformers folder, on the CPU, without a head.

    Args:
        folder: the folder.
        trust_remote_code: whether Python code of the folder may run.
        dtype: number format of the weights.

    Raises BadInput where the folder is none, lacks weights, asks for more than reading them, or does not fit into memory.
    """
    from transformers import AutoConfig, AutoTokenizer

    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    with refuse_unreadable_model(folder, NO_MODEL):
        check_folder(folder, "AutoModel", trust_remote_code)
        refuse_too_large(folder, dtype)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **trust)
        config = AutoConfig.from_pretrained(folder, **trust)
        own_class = find_remote_class(config, folder, "AutoModel") if trust_remote_code else None
        model_class = find_backbone_class(config)
        loading = {**trust, **LOADING, "dtype": dtype, **build_options(config, own_class)}
        backbone, report = model_class.from_pretrained(folder, config=config, **loading)
    refuse_missing_weights(folder, report["missing_keys"])
    backbone.config.use_cache = False  # decoders keep keys and values of all layers to write the next token, which nobody asks for
    fit_tokenizer(folder, tokenizer, backbone)
    lower_case(folder, tokenizer)
    try_backbone(folder, backbone.eval(), tokenizer)
    return backbone, tokenizer


def load_classifier(folder: Path, new_head: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """As `load_transformer`, with the classification head on it.

    With `new_head` a head that the folder lacks is made, of one score and random numbers; any other missing weight is refused.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    with refuse_unreadable_model(folder, NO_MODEL):
        check_folder(folder, "AutoModelForSequenceClassification")
        refuse_too_large(folder, torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if new_head and not is_classifier(config.architectures):
            config.num_labels = 1
        model, report = AutoModelForSequenceClassification.from_pretrained(folder, config=config, trust_remote_code=False, **LOADING)
    missing = list(report["missing_keys"])
    if new_head:
        body = f"{model.base_model_prefix}."
        missing = [name for name in missing if name.startswith(body) and ".pooler." not in name]
    refuse_missing_weights(folder, missing)
    fit_tokenizer(folder, tokenizer, model)
    lower_case(folder, tokenizer)
    try_classifier(folder, model.eval(), tokenizer)
    return model, tokenizer


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
    except BadInput:
        raise
    except Exception as error:  # transformers raises errors of any kind for a folder that it did not expect
        if is_out_of_memory(error):
            raise
        raise BadInput(f"{folder}: {fault}: {first_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def find_backbone_class(config: PretrainedConfig) -> Any:
    """The class that reads texts: AutoModel, or the encoder alone of a family of ENCODERS."""
    import transformers

    return getattr(transformers, ENCODERS.get(config.model_type, "AutoModel"))


def new_backbone(config: PretrainedConfig) -> PreTrainedModel:
    """A backbone of random weights."""
    if config.model_type in ENCODERS:
        return find_backbone_class(config)(config)
    return find_backbone_class(config).from_config(config, trust_remote_code=False, **build_options(config))


def build_options(config: PretrainedConfig, own_class: Any | None = None) -> dict[str, Any]:
    """Arguments with which every backbone is built, from a checkpoint or from a config; `own_class` is one of the folder's own code."""
    from transformers import MODEL_MAPPING

    model_class: Any = own_class or MODEL_MAPPING[type(config)]
    # this package pools itself, and a pooler that the checkpoint lacks would be made of random numbers
    has_pooler = "add_pooling_layer" in inspect.signature(model_class).parameters
    return {"add_pooling_layer": False} if has_pooler else {}


def choose_length(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, limit: int | None, asked: int | None) -> int:
    """Tokens at which texts are cut: as many as the user `asked` for, or as `longest_text` has it.

    Raises BadInput where the model reads fewer than were asked for, or where none would be left beside the special tokens.
    """
    if asked is None:
        return longest_text(backbone, tokenizer, limit)
    positions = min(count_table_rows(backbone), default=UNLIMITED)
    shortest = tokenizer.num_special_tokens_to_add() + 1
    if isinstance(asked, bool) or not shortest <= asked <= positions:
        most = "on" if positions == UNLIMITED else f"to {positions}"
        raise BadInput(f"max_length: {asked}: must be from {shortest} {most}, the tokens that {tokenizer.name_or_path} reads")
    return asked


def longest_text(backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, limit: int | None = None) -> int:
    """Tokens of the longest text that a model reads: `limit` or the tokenizer's limit, but not more than the model has positions.

    A `limit` counts where the model has no table of positions, as its config then says only on which lengths it was trained.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise BadInput(f"{tokenizer.name_or_path}: max_seq_length {limit!r}: give a number of tokens, special tokens included")
    is_bound = limit is None or count_table_rows(backbone)
    positions = count_positions(backbone) if is_bound else None
    longest = int(min(limit or tokenizer.model_max_length, positions or UNLIMITED, UNLIMITED))
    own = tokenizer.num_special_tokens_to_add()
    if longest <= own:
        raise BadInput(f"{tokenizer.name_or_path}: it reads at most {longest} tokens, of which {own} are special tokens: no text has room")
    return longest
