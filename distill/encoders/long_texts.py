"""Cuts long texts before a tokenizer reads them: it reads a whole text, in hundreds of bytes for each character, before it truncates."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS_PER_TOKEN = 8  # read at first for each token that is wanted; more where that was too little
SHORTEST_BEGINNING = 2048  # characters
GROWTH = 4  # a beginning that was too short is made so many times longer; a text shorter than that is read as it is
RUN_END = 500  # characters at both ends of a long run that count
LONG_RUN = re.compile("|".join(rf"(?<!{kind})({kind}{{{RUN_END}}}){kind}+({kind}{{{RUN_END}}})" for kind in ("[A-Za-z0-9]", r"[ \t\r\n]")))
WORD_MARK = "▁"  # stands for the space before a word in vocabularies of SentencePiece
# a match of these expressions depends on at most one character behind it, so no cut changes tokens far before it
LOOKS_NEAR = r"(?!\S)"
LOOKS_AHEAD = re.compile(r"\(\?[=!]")


def cut_long_texts(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[str]:
    """Cuts each long text behind its first `max_length` tokens, so that truncation on the right gives the same tokens as of the whole.

    A text whose first tokens cannot be told from its beginning stays whole.
    """
    size = max(SHORTEST_BEGINNING, CHARACTERS_PER_TOKEN * max_length)
    if all(len(text) <= GROWTH * size for text in texts) or sees_far_ahead(tokenizer):
        return list(texts)
    cutter = TextCutter(tokenizer)
    return [cutter.cut(text, max_length, size) if len(text) > GROWTH * size else text for text in texts]


class TextCutter:
    """Cuts long texts for one tokenizer, of which it keeps what is costly to find out."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        # so many tokens at the end of a beginning may be the first part of a token that was added to the vocabulary
        self.doubtful = 1 + max((len(content.encode()) for content in self.added), default=0)
        self.splits_before_marks = splits_before_marks(tokenizer)

    def cut(self, text: str, max_length: int, size: int) -> str:
        """A beginning of `text` that has its first `max_length` tokens: of `size` characters, or of GROWTH times as many, and so on."""
        while GROWTH * size < len(text):
            beginning = take_beginning(text, size)
            if self._has_tokens(beginning, max_length):
                return beginning
            shorter = LONG_RUN.sub(r"\1\2\3\4", text) if forgets_long_runs(self.tokenizer, self.added) else text
            if len(shorter) == len(text):
                size *= GROWTH
            text = shorter
        return text

    def _has_tokens(self, beginning: str, count: int) -> bool:
        """Whether `count` tokens of a beginning are those of the whole text, whatever follows."""
        return self.count_final_tokens(beginning) >= count or self.count_agreed_tokens(beginning) >= count

    def count_final_tokens(self, beginning: str) -> int:
        """How many tokens of a text's beginning are those of the whole text, whatever follows.

        Tokenizers split a text into words and these into tokens, so all tokens before the last words are final.
        """
        encoding = self.tokenizer.encode(beginning, add_special_tokens=False)
        words: list[int] = []  # of each token the number of its word
        spans: list[tuple[int, int]] = []  # of each token its characters
        before: tuple[int | None, str] = (None, "")  # word and text of the token before
        for part in (encoding, *encoding.overflowing):
            for word, span, token in zip(part.word_ids, part.offsets, part.tokens, strict=True):
                if word is None:
                    continue  # padding
                is_marked = self.splits_before_marks and token.startswith(WORD_MARK) and not before[1].endswith(WORD_MARK)
                begins = word != before[0] or is_marked
                words.append(words[-1] + begins if words else 0)
                spans.append(span)
                before = (word, token)
        count = max(0, len(words) - self.doubtful)
        while count and not beginning[slice(*spans[count - 1])].strip():
            count -= 1  # an added token may swallow the spaces before it
        for _ in range(2):  # the word at the cut, and the one before it, as some words end with the space behind them
            last = words[count - 1] if count else None
            while count and words[count - 1] == last:
                count -= 1
        return count

    def count_agreed_tokens(self, beginning: str) -> int:
        """How many tokens of a beginning that ends within a long word are those of the whole text, whatever follows.

        Somewhere behind the first cut, and within the length of a token, the tokens of the whole word have a boundary, and the tokens
        before a boundary are those of the word cut there: in BPE no merge crossed it, in Unigram every part of the best path is best.
        So what is the same at all these cuts is the same in the whole word.
        """
        model: Any = self.tokenizer.model
        if type(model).__name__ not in ("BPE", "Unigram") or getattr(model, "end_of_word_suffix", None) or getattr(model, "dropout", None):
            return 0
        words = self._split(beginning)
        word = words[-1][: -self.doubtful] if words else ""
        if len(word) < 3 * self.longest_token or any(content in text for content in self.added for text in (beginning, *words)):
            return 0  # added tokens are taken out before a text is split into words
        cuts = [[token.id for token in model.tokenize(word[: len(word) - cut])] for cut in range(self.longest_token)]
        agreed = next((place for place, ids in enumerate(zip(*cuts, strict=False)) if len(set(ids)) > 1), min(map(len, cuts)))
        return sum(len(model.tokenize(other)) for other in words[:-1]) + agreed

    @cached_property
    def longest_token(self) -> int:
        """Characters of the longest token, as the model reads it."""
        return max(map(len, self.tokenizer.get_vocab(with_added_tokens=False)))

    def _split(self, beginning: str) -> list[str]:
        """The words of a text as the model of the tokenizer gets them."""
        normalizer, splitter = self.tokenizer.normalizer, self.tokenizer.pre_tokenizer
        text = beginning if normalizer is None else normalizer.normalize_str(beginning)
        return [text] if splitter is None else [word for word, _ in splitter.pre_tokenize_str(text)]


def take_beginning(text: str, size: int) -> str:
    """The first `size` characters of a text, and more where the next is an accent, which may change places with those before it."""
    while size < len(text) and unicodedata.combining(text[size]):
        size += 1
    return text[:size]


def forgets_long_runs(tokenizer: Tokenizer, added: Sequence[str]) -> bool:
    """Whether the middle of LONG_RUN changes no token: BERT's tokenizers leave out spaces, and a word so long is one unknown token."""
    model: Any = tokenizer.model
    kinds = (type(tokenizer.normalizer).__name__, type(tokenizer.pre_tokenizer).__name__, type(model).__name__)
    is_bert = kinds[0] in ("BertNormalizer", "NoneType") and kinds[1:] == ("BertPreTokenizer", "WordPiece")
    fits = is_bert and model.max_input_chars_per_word < RUN_END and all(len(content) < RUN_END for content in added)
    return fits and not any(re.fullmatch(r"[A-Za-z0-9]*|[ \t\r\n]*", content) for content in added)


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
