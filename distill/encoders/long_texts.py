"""Cuts long texts before a tokenizer reads them: it reads a whole text, in hundreds of bytes for each character, before it truncates."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS_PER_TOKEN = 8  # read at first for each token that is wanted; more where that was too little
SHORTEST_BEGINNING = 2048  # characters
GROWTH = 4  # a beginning that was too short is made so many times longer; a text shorter than that is read as it is
WORD_MARK = "▁"  # stands for the space before a word in vocabularies of SentencePiece
# a match of these expressions depends on at most one character behind it, so no cut changes tokens far before it
LOOKS_NEAR = r"(?!\S)"
LOOKS_AHEAD = re.compile(r"\(\?[=!]")


def cut_long_texts(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[str]:
    """Cuts each long text behind its first `max_length` tokens, so that truncation on the right gives the same tokens as of the whole.

    A text whose first tokens cannot be told from its beginning, such as one long word, stays whole.
    """
    size = max(SHORTEST_BEGINNING, CHARACTERS_PER_TOKEN * max_length)
    if all(len(text) <= GROWTH * size for text in texts) or sees_far_ahead(tokenizer):
        return list(texts)
    added = [token.content.encode() for token in tokenizer.get_added_tokens_decoder().values()]
    # so many tokens at the end of a beginning may be the first part of a token that was added to the vocabulary
    doubtful = 1 + max(map(len, added), default=0)
    marks = splits_before_marks(tokenizer)
    return [cut_text(tokenizer, text, max_length, size, doubtful, marks) for text in texts]


def cut_text(tokenizer: Tokenizer, text: str, max_length: int, size: int, doubtful: int, marks: bool) -> str:
    """A beginning of `text` that has its first `max_length` tokens: of `size` characters, or of GROWTH times as many, and so on."""
    while GROWTH * size < len(text):
        end = size
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1  # accents may change places with those before them
        beginning = text[:end]
        if count_final_tokens(tokenizer, beginning, doubtful, marks) >= max_length:
            return beginning
        size *= GROWTH
    return text


def count_final_tokens(tokenizer: Tokenizer, beginning: str, doubtful: int, marks: bool) -> int:
    """How many tokens of a text's beginning are those of the whole text, whatever follows.

    Tokenizers split a text into words and these into tokens, so all tokens before the last words are final.

    Args:
        doubtful: tokens at the end that may belong to a longer token.
        marks: whether a token that begins with a mark begins a word.
    """
    encoding = tokenizer.encode(beginning, add_special_tokens=False)
    words: list[int] = []  # of each token the number of its word
    spans: list[tuple[int, int]] = []  # of each token its characters
    before: tuple[int | None, str] = (None, "")  # word and text of the token before
    for part in (encoding, *encoding.overflowing):
        for word, span, token in zip(part.word_ids, part.offsets, part.tokens, strict=True):
            if word is None:
                continue  # padding
            is_marked = marks and token.startswith(WORD_MARK) and not before[1].endswith(WORD_MARK)
            begins = word != before[0] or is_marked
            words.append(words[-1] + begins if words else 0)
            spans.append(span)
            before = (word, token)
    count = max(0, len(words) - doubtful)
    while count and not beginning[slice(*spans[count - 1])].strip():
        count -= 1  # an added token may swallow the spaces before it
    for _ in range(2):  # the word at the cut, and the one before it, as some words end with the space behind them
        last = words[count - 1] if count else None
        while count and words[count - 1] == last:
            count -= 1
    return count


def sees_far_ahead(tokenizer: Tokenizer) -> bool:
    """Whether a token may depend on characters far behind it: a rule looks ahead, or texts are cut on the left."""
    truncation = tokenizer.truncation
    if truncation and (truncation["direction"].lower() == "left" or truncation["stride"]):
        return True
    parts = [part.__getstate__() for part in (tokenizer.normalizer, tokenizer.pre_tokenizer) if part is not None]
    return any(LOOKS_AHEAD.search(rule.replace(LOOKS_NEAR, "")) for part in parts for rule in list_rules(json.loads(part)))


def list_rules(settings: Any) -> list[str]:
    """All texts in the settings of a part of a tokenizer, its regular expressions among them."""
    if isinstance(settings, str):
        return [settings]
    items = settings.values() if isinstance(settings, dict) else settings if isinstance(settings, list) else []
    return [rule for item in items for rule in list_rules(item)]


def splits_before_marks(tokenizer: Tokenizer) -> bool:
    """Whether no token goes across the beginning of a word that a mark begins, so that words are tokens of their own without being split.

    SentencePiece's vocabularies are so; some of their tokenizers read a whole text as one word.
    """
    model = tokenizer.model
    takes_parts = type(model).__name__ in ("BPE", "Unigram") and not getattr(model, "ignore_merges", False)
    if not takes_parts or tokenizer.token_to_id(WORD_MARK) is None:
        return False
    return not any(WORD_MARK in token.lstrip(WORD_MARK) for token in tokenizer.get_vocab(with_added_tokens=False))
