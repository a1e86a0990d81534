"""Cuts the vocabulary of an encoder: the tokens that its texts use most keep their rows of the word table, under new ids."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from distill.encoders.encoder import Encoder
from distill.encoders.modules import Transformer
from distill.encoders.tokenizer_cuts import TokenizerParts, close_over_parts, cut_tokenizer
from distill.encoders.transformer_folder import first_line, new_backbone
from distill.files.fingerprints import fingerprint
from distill.files.progress import log
from distill.records import BadInput, is_out_of_memory

VocabularySize = int | Literal["used"]
TokenCounter = Callable[[Encoder], np.ndarray]  # from an encoder to [V], how often each of its tokens occurs
FIX = "leave vocabulary out"
TRIED = 64  # tokens that trial texts are made of
ROUNDING = 1e-4  # difference of two vectors, as a share of their largest number


def check_vocabulary(size: VocabularySize | None) -> None:
    """Refuses what is no size of a vocabulary."""
    if size is None or size == "used":
        return
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise BadInput(f"vocabulary: {size!r}: give the number of tokens to keep, or used for all that the texts use")


def prune_vocabulary(encoder: Encoder, counts: np.ndarray, size: VocabularySize) -> Encoder:
    """An encoder with a part of another's tokens, which gives the same vector to each text of tokens that it has.

    Args:
        encoder: stays as it is; the two share the modules behind the transformer. Where all its tokens are kept, it is returned.
        counts: [V] how often each token occurs, or another weight of it.
        size: number of tokens to keep, or `used` for all that occur.

    Raises:
        BadInput: the size is too small, or the tokenizer or the architecture cannot be cut.
    """
    kept_ids = choose_tokens(encoder, counts, size)
    return encoder if len(kept_ids) == len(list_tokens(encoder)) else keep_tokens(encoder, kept_ids)


def choose_tokens(encoder: Encoder, counts: np.ndarray, size: VocabularySize) -> np.ndarray:
    """Ids [n] of the tokens to keep, in the order of `list_tokens`.

    Special and added tokens, those of the prompts, single characters and bytes are always among them, so that every text can still be
    tokenised; of the others the most frequent. A BPE keeps, with each token, those that it is merged from.

    Args:
        encoder: the encoder with all its tokens.
        counts: [V] how often each token occurs, or another weight of it.
        size: number of tokens to keep, or `used` for all that occur.
    """
    check_vocabulary(size)
    tokenizer_parts = TokenizerParts(encoder.tokenizer)
    ids, parts = list_tokens(encoder), tokenizer_parts.find_parts()
    required = (tokenizer_parts.find_required() | _find_named(encoder)) & set(ids)
    kept_ids = close_over_parts(required, parts, set())
    if size == "used":
        used = [id_ for id_ in ids if counts[id_] > 0]
        kept_ids |= close_over_parts(used, parts, kept_ids)
    elif size >= len(ids):
        kept_ids = set(ids)
    else:
        kept_ids |= _choose_most_frequent(ids, counts, size, parts, kept_ids)
    return np.array([id_ for id_ in ids if id_ in kept_ids], np.int64)


def _choose_most_frequent(ids: list[int], counts: np.ndarray, size: int, parts: dict[int, set[int]], required: set[int]) -> set[int]:
    """The most frequent of `ids` with their parts, and those that are required: `size` tokens, or fewer where no more fit."""
    kept_ids = set(required)
    if size < len(kept_ids):
        fix = f"give {len(kept_ids)} or more, or used"
        raise BadInput(f"vocabulary: {size}: {len(kept_ids)} tokens must stay, such as special tokens and single characters: {fix}")
    by_count = sorted(ids, key=lambda id_: (-counts[id_], id_))
    for id_ in by_count:
        if len(kept_ids) == size:
            break
        more = close_over_parts([id_], parts, kept_ids)
        if len(kept_ids) + len(more) <= size:
            kept_ids |= more
    return kept_ids


def list_tokens(encoder: Encoder) -> list[int]:
    """The ids of all tokens that have a row in the word table, in the order of `TokenizerParts.ids`, which is ascending as a rule."""
    rows = len(encoder.word_table.weight)
    return [id_ for id_ in TokenizerParts(encoder.tokenizer).ids if id_ < rows]


def _find_named(encoder: Encoder) -> set[int]:
    """Ids of the tokens that the tokenizer's and the backbone's settings name, and of those of the prompts."""
    named = set(encoder.tokenizer.all_special_ids)
    for part in _list_parts(encoder.backbone.config):
        for _, value in _list_token_ids(part):
            named.update(value if isinstance(value, list) else [value])
    for prompt in encoder.settings.prompts.values():
        named.update(encoder.tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else [])
    return named


def _list_parts(config: PretrainedConfig) -> list[PretrainedConfig]:
    """A config, and the one of its part that reads texts where that is another."""
    text_config = config.get_text_config()
    return [config] if text_config is config else [config, text_config]


def _list_token_ids(config: PretrainedConfig) -> list[tuple[str, int | list[int]]]:
    """The settings of a backbone that are ids of tokens, by name."""
    return [(name, value) for name, value in config.to_dict().items() if name.endswith("_token_id") and value is not None]


def keep_tokens(encoder: Encoder, kept_ids: np.ndarray) -> Encoder:
    """An encoder that has only the tokens `kept_ids` [n] of another, ids in the order in which `choose_tokens` returns them.

    Raises:
        BadInput: where that cannot be done, or where the vectors of texts of these tokens would change.
    """
    old_ids = [int(id_) for id_ in kept_ids]
    backbone = cut_backbone(encoder.backbone, old_ids)
    tokenizer = cut_tokenizer(encoder.tokenizer, old_ids)
    cut = Encoder([Transformer(backbone), encoder.pooling, *encoder.head], tokenizer, encoder.settings)
    _prove_equal(encoder, cut, old_ids)
    return cut


def cut_backbone(backbone: PreTrainedModel, kept_ids: Sequence[int]) -> PreTrainedModel:
    """A copy of a transformer whose word table has only the rows `kept_ids`, in that order."""
    kind = backbone.config.model_type
    try:
        table = Transformer(backbone).word_table.weight  # [V, D]
        state = backbone.state_dict()
        is_table = {name: tensor.data_ptr() == table.data_ptr() and tensor.shape == table.shape for name, tensor in state.items()}
        others = [name for name, tensor in state.items() if tensor.ndim and len(tensor) == len(table) and not is_table[name]]
        if others:
            raise BadInput(f"its {others[0]} has a row for each token too")
        rows = {name: tensor[list(kept_ids)] if is_table[name] else tensor for name, tensor in state.items()}
        cut = new_backbone(renumber_config(backbone.config, kept_ids, len(table)))
        nn.Module.to(cut, dtype=backbone.dtype)
        cut.load_state_dict(rows)
        for before, after in zip(backbone.modules(), cut.modules(), strict=True):
            if isinstance(before, nn.Dropout) and isinstance(after, nn.Dropout):
                after.p = before.p  # which may have been turned off without a setting that says so
    except Exception as error:  # of any kind, where an architecture has settings or weights for each token that nobody expects
        if is_out_of_memory(error):
            raise
        raise BadInput(f"vocabulary: {kind}: this architecture cannot be pruned: {first_line(error)}: {FIX}") from None
    return cut.eval()


def renumber_config(config: PretrainedConfig, kept_ids: Sequence[int], rows: int) -> PretrainedConfig:
    """The config of a transformer whose word table has only the rows `kept_ids` of `rows`."""
    new_ids = {old: new for new, old in enumerate(kept_ids)}

    def renumber(id_: Any) -> Any:
        return new_ids.get(id_) if isinstance(id_, int) and 0 <= id_ < rows else id_

    cut = copy.deepcopy(config)
    for part in _list_parts(cut):
        for name, value in _list_token_ids(part):
            setattr(part, name, [renumber(id_) for id_ in value] if isinstance(value, list) else renumber(value))
        part.vocab_size = len(kept_ids)
    return cut


@torch.inference_mode()
def _prove_equal(before: Encoder, after: Encoder, kept_ids: Sequence[int]) -> None:
    """Raises BadInput where a few texts of kept tokens have other tokens or another vector than before."""
    new_ids = {old: new for new, old in enumerate(kept_ids)}
    spread = sorted({kept_ids[place * len(kept_ids) // TRIED] for place in range(TRIED)})
    words = [str(before.tokenizer.decode([id_])) for id_ in spread]
    texts = ["", *words[::4], *(" ".join(words[start : start + 8]) for start in range(0, len(words), 8))]
    old_tokens = before.token_ids(texts, "query")
    # `~id` is a token of the prompt
    renumbered = [[new_ids.get(id_) if id_ >= 0 else ~new_ids.get(~id_, 0) for id_ in row] for row in old_tokens]
    rows = [row for row, ids in enumerate(renumbered) if None not in ids]
    reason = "texts of kept tokens would have other {}"
    if after.token_ids([texts[row] for row in rows], "query") != [renumbered[row] for row in rows]:
        raise BadInput(f"vocabulary: {type(before.tokenizer).__name__}: this tokenizer cannot be pruned: {reason.format('tokens')}: {FIX}")
    vectors, expected = (encoder(encoder.pad(encoder.token_ids([texts[row] for row in rows], "query"))) for encoder in (after, before))
    if not bool((vectors - expected).abs().max() <= ROUNDING * expected.abs().max()):
        kind = before.backbone.config.model_type
        raise BadInput(f"vocabulary: {kind}: this architecture cannot be pruned: {reason.format('vectors')}: {FIX}")


def prune_by_texts(encoder: Encoder, size: VocabularySize, count_tokens: TokenCounter | None) -> tuple[Encoder, str]:
    """As `prune_vocabulary`, by the texts of a training; returns also what `describe_vocabulary` says, which is logged."""
    if count_tokens is None:
        raise BadInput(f"vocabulary: {size}: a student that meets no texts has no tokens to count: train it with RetrievalData, or {FIX}")
    counts = count_tokens(encoder)
    kept_ids = choose_tokens(encoder, counts, size)
    total = len(list_tokens(encoder))
    description = describe_vocabulary(counts, kept_ids, total)
    log.info(f"vocabulary: {description}")
    return (encoder if len(kept_ids) == total else keep_tokens(encoder, kept_ids)), description


def describe_vocabulary(counts: np.ndarray, kept_ids: np.ndarray, total: int) -> str:
    """Says how many tokens are kept, and how much of the texts they make up.

    >>> describe_vocabulary(np.array([1.0, 989.0, 10.0]), np.array([0, 1]), total=3)
    '2 of 3 tokens kept, which are 99.0% of the tokens of queries and documents'
    """
    coverage = counts[kept_ids].sum() / counts.sum() if counts.sum() else 1.0
    return f"{len(kept_ids):,} of {total:,} tokens kept, which are {coverage:.1%} of the tokens of queries and documents"


def vocabulary_fingerprint(encoder: Encoder) -> str:
    """16 hex digits over the tokens that have rows in the word table, and their order."""
    vocabulary = encoder.tokenizer.get_vocab()
    return fingerprint(sorted(vocabulary, key=vocabulary.__getitem__))
