"""Cuts tokens out of a tokenizer: which must stay, which stay together, and a tokenizer of the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from distill.encoders.loading import optional_json
from distill.encoders.tokenizer_settings import SETTINGS
from distill.files.atomic import write_json
from distill.records import BadInput

KINDS = ("WordPiece", "BPE", "Unigram")
PARTS = ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder")
KEPT_SETTINGS = ("padding_side", "truncation_side", "model_max_length", "model_input_names")  # that may have been set after loading
BYTE = re.compile("<0x[0-9A-F]{2}>")  # a token that stands for a byte, where a vocabulary lacks a character


class TokenizerParts:
    """The parts of a tokenizer that know ids of tokens.

    Args:
        tokenizer: the tokenizer.

    Raises BadInput where it is of a kind that is not cut.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.settings: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        self.model: dict[str, Any] = self.settings["model"]
        self.kind: str = self.model["type"]
        if self.kind not in KINDS:
            raise BadInput(f"vocabulary: {tokenizer.name_or_path}: a tokenizer of kind {self.kind} is not cut: leave vocabulary out")
        self.added: list[dict[str, Any]] = self.settings["added_tokens"]
        self.prefix: str = self.model.get("continuing_subword_prefix") or ""
        self.suffix: str = self.model.get("end_of_word_suffix") or ""
        vocabulary = self.model["vocab"]
        pieces = (
            enumerate(piece for piece, _ in vocabulary) if self.kind == "Unigram" else ((id_, token) for token, id_ in vocabulary.items())
        )
        self.base: dict[int, str] = dict(pieces)  # tokens of the model by id, without those that were added behind it
        self.merges: list[tuple[str, str]] = [(left, right) for left, right in self.model.get("merges", [])]

    @property
    def ids(self) -> list[int]:
        """The ids of all tokens, ascending, but those of tokens that are added ones alone last; there may be gaps between them."""
        return [*sorted(self.base), *sorted({token["id"] for token in self.added} - set(self.base))]

    def find_required(self) -> set[int]:
        """The ids of added tokens, of the unknown token, and of all that any text can be spelt with."""
        required = {token["id"] for token in self.added}
        unknown = self.model.get("unk_id") if self.kind == "Unigram" else self.model["vocab"].get(self.model.get("unk_token"))
        if unknown is not None:
            required.add(unknown)
        elementary = {id_ for id_, token in self.base.items() if len(self._strip(token)) <= 1 or BYTE.fullmatch(token)}
        required |= elementary
        # BPE begins from characters anyway, unless it looks whole words up first
        needs_spelling = not self.model.get("byte_fallback") and (self.kind != "BPE" or self.model.get("ignore_merges"))
        if needs_spelling:
            known = {self.base[id_] for id_ in elementary}
            required |= {id_ for id_, token in self.base.items() if not self._is_spelt(token, known)}
        return required

    def _strip(self, token: str) -> str:
        return token.removeprefix(self.prefix).removesuffix(self.suffix)

    def _is_spelt(self, token: str, known: set[str]) -> bool:
        """Whether a token can be put together of single characters that are tokens."""
        continues = bool(self.prefix) and token.startswith(self.prefix)
        characters = token.removeprefix(self.prefix) if continues else token
        marks = [self.prefix if continues or place else "" for place in range(len(characters))]
        return all(mark + character in known for mark, character in zip(marks, characters, strict=True))

    def find_parts(self) -> dict[int, set[int]]:
        """For each token of a BPE the tokens that the merges which produce it are made of."""
        vocabulary = self.model["vocab"] if self.merges else {}
        parts: dict[int, set[int]] = {}
        for left, right in self.merges:
            parts.setdefault(vocabulary[self._merge(left, right)], set()).update((vocabulary[left], vocabulary[right]))
        return parts

    def _merge(self, left: str, right: str) -> str:
        return left + right[len(self.prefix) :]

    def cut(self, new_ids: dict[int, int]) -> dict[str, Any]:
        """The settings of a tokenizer that has the tokens of `new_ids` alone, under their new ids."""
        model = dict(self.model)
        if self.kind == "Unigram":
            model["vocab"] = [piece for id_, piece in enumerate(self.model["vocab"]) if id_ in new_ids]
            model["unk_id"] = None if self.model["unk_id"] is None else new_ids[self.model["unk_id"]]
        else:
            model["vocab"] = {token: new_ids[id_] for id_, token in sorted(self.base.items()) if id_ in new_ids}
        if self.kind == "BPE":
            vocabulary = model["vocab"]
            model["merges"] = [pair for pair in self.merges if {*pair, self._merge(*pair)} <= vocabulary.keys()]
        settings = {**self.settings, "model": model, "added_tokens": [{**token, "id": new_ids[token["id"]]} for token in self.added]}
        settings["post_processor"] = renumber_ends(self.settings["post_processor"], new_ids)
        if settings.get("padding"):
            settings["padding"] = {**settings["padding"], "pad_id": new_ids[settings["padding"]["pad_id"]]}
        return settings


def close_over_parts(tokens: Iterable[int], parts: dict[int, set[int]], closed: set[int]) -> set[int]:
    """Those of `tokens`, of their parts, of the parts of these and so on that are not in `closed`, which has the parts of its own.

    >>> close_over_parts([7], {7: {5, 3}, 5: {1, 2}}, closed={1})
    {2, 3, 5, 7}
    """
    found: set[int] = set()
    waiting = list(tokens)
    while waiting:
        token = waiting.pop()
        if token not in closed and token not in found:
            found.add(token)
            waiting.extend(parts.get(token, ()))
    return found


def renumber_ends(processor: Any, new_ids: dict[int, int]) -> Any:
    """The same post-processor, which puts special tokens around a text, with their new ids."""
    if not processor:
        return processor
    renumbered = dict(processor)
    if "processors" in processor:
        renumbered["processors"] = [renumber_ends(part, new_ids) for part in processor["processors"]]
    for name in ("sep", "cls"):  # as BERT's and RoBERTa's have them
        if name in processor:
            token, id_ = processor[name]
            renumbered[name] = [token, new_ids[id_]]
    if isinstance(processor.get("special_tokens"), dict):
        tokens = processor["special_tokens"]
        renumbered["special_tokens"] = {name: {**token, "ids": [new_ids[id_] for id_ in token["ids"]]} for name, token in tokens.items()}
    return renumbered


def cut_tokenizer(tokenizer: PreTrainedTokenizerFast, kept_ids: Sequence[int]) -> PreTrainedTokenizerFast:
    """A tokenizer of the same class and settings that has some of the tokens.

    Args:
        tokenizer: stays as it is.
        kept: ids of the tokens to keep, in the order of `TokenizerParts.ids`, which become 0, 1, 2, ...

    Raises BadInput where the class of the tokenizer gives them other ids.
    """
    settings = TokenizerParts(tokenizer).cut({old: new for new, old in enumerate(kept_ids)})
    expected = Tokenizer.from_str(json.dumps(settings))
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(settings), encoding="utf-8")
        own = optional_json(Path(folder) / SETTINGS)
        if "unk_id" in own:  # of classes that make their Unigram anew
            write_json(Path(folder) / SETTINGS, {**own, "unk_id": settings["model"].get("unk_id")})
        cut: Any = type(tokenizer).from_pretrained(folder)
    cut.name_or_path = tokenizer.name_or_path
    for name in KEPT_SETTINGS:
        setattr(cut, name, getattr(tokenizer, name))
    for part in PARTS:  # some classes make theirs anew
        setattr(cut.backend_tokenizer, part, getattr(expected, part))
    before, after = tokenizer.backend_tokenizer, cut.backend_tokenizer
    wrong = [old for new, old in enumerate(kept_ids) if after.id_to_token(new) != before.id_to_token(old)]
    if wrong or len(cut) != len(kept_ids):
        example = f"token {before.id_to_token(wrong[0])!r} gets another id" if wrong else f"it has {len(cut)} tokens, not {len(kept_ids)}"
        raise BadInput(f"vocabulary: {tokenizer.name_or_path}: its {type(tokenizer).__name__} is not cut: {example}: leave vocabulary out")
    return cut
