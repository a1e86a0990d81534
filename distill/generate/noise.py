"""Corrupts real queries, by the noise of BART's pre-training and by typing errors, without a model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar, Literal

from distill.generate.generator import Generator, Progress, check_setting, check_shares
from distill.generate.material import Material
from distill.generate.statistics import Statistics
from distill.texts.words import join_words, list_words

KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {row[i]: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in KEYBOARD for i in range(len(row))}  # keys beside a key
KINDS = ("delete", "infill", "permute", "typo", "truncate")
DEFAULT_KINDS = dict.fromkeys(KINDS, 1.0)
LONGEST_INFILLED = 3  # most words that one word of the corpus replaces


class Noise(Generator):
    """Corrupts real queries: deletes, replaces, permutes or mistypes words, or cuts the query off as in search-as-you-type.

    Infilling and deletion are those of BART (arXiv 1910.13461), but with a word of the corpus in the place of BART's mask.

    Args:
        kinds: weight of each kind of change in the random choice; a kind that is left out is never chosen.
        rate: share of a query's words that one change affects; at least one word.
        most_changes: a query gets from 1 to so many changes.
    """

    reads: ClassVar[Literal["queries"]] = "queries"

    def __init__(self, kinds: dict[str, float] = DEFAULT_KINDS, rate: float = 0.15, most_changes: int = 2):
        check_shares("kinds", kinds, KINDS)
        check_setting("rate", 0 < rate <= 1, f"{rate}: a share of the words is above 0 and at most 1")
        check_setting("most_changes", most_changes > 0, f"{most_changes}: must be at least 1")
        self.kinds, self.rate, self.most_changes = kinds, rate, most_changes

    def prepare(self, material: Material) -> None:
        self.set_statistics(material.statistics)

    def set_statistics(self, statistics: Statistics) -> None:
        """Sets the statistics whose words are put in."""
        self._corpus_words, self._corpus_weights = statistics.vocabulary

    def write(self, texts: Sequence[str], counts: Sequence[int], rng: random.Random, progress: Progress) -> list[list[str]]:
        changes = {
            "delete": self._delete,
            "infill": self._infill,
            "permute": self._permute,
            "typo": self._mistype,
            "truncate": self._truncate,
        }
        choices = [changes[kind] for kind in self.kinds]
        weights = list(accumulate(self.kinds.values()))
        queries: list[list[str]] = []
        for text, count in zip(texts, counts, strict=True):
            original = list_words(text)
            queries.append([])
            for _ in range(count):
                words = original.copy()
                for change in rng.choices(choices, cum_weights=weights, k=1 + int(rng.random() * self.most_changes)):
                    change(words, rng)
                queries[-1].append(join_words(words))
        progress(sum(counts))
        return queries

    def _count_affected(self, words: list[str]) -> int:
        """Returns the number of words that a change affects."""
        return max(1, round(self.rate * len(words)))

    # each of these methods changes the words of a query in place

    def _delete(self, words: list[str], rng: random.Random) -> None:
        for _ in range(min(self._count_affected(words), len(words) - 1)):
            del words[int(rng.random() * len(words))]

    def _infill(self, words: list[str], rng: random.Random) -> None:
        if not self._corpus_words:  # documents of numbers alone
            return
        for word in rng.choices(self._corpus_words, cum_weights=self._corpus_weights, k=self._count_affected(words)):
            start = int(rng.random() * (len(words) + 1))
            length = int(rng.random() * min(LONGEST_INFILLED + 1, len(words)))
            words[start : start + length] = [word]

    def _permute(self, words: list[str], rng: random.Random) -> None:
        for _ in range(self._count_affected(words)):
            target = int(rng.random() * len(words))
            word = words.pop(int(rng.random() * len(words)))
            words.insert(target, word)

    def _mistype(self, words: list[str], rng: random.Random) -> None:
        for _ in range(self._count_affected(words)):
            place = int(rng.random() * len(words))
            words[place] = mistype(words[place], rng)

    def _truncate(self, words: list[str], rng: random.Random) -> None:
        """Cuts the query off at a random letter of its second half."""
        text = join_words(words)
        words[:] = list_words(text[: max(1, int(len(text) * (1 + rng.random()) / 2))])


def mistype(word: str, rng: random.Random) -> str:
    """Changes one letter of a word: doubles it, omits it, swaps it with the next one, or replaces it by a neighbouring key."""
    place = int(rng.random() * len(word))
    kind = rng.random()
    letter, before, after = word[place], word[:place], word[place + 1 :]
    if kind < 0.25:
        return before + letter + letter + after
    if kind < 0.5 and len(word) > 2:
        return before + after
    if kind < 0.75 and after:
        return before + after[0] + letter + after[1:]
    keys = NEIGHBOURS.get(letter, letter)
    return before + keys[int(rng.random() * len(keys))] + after
