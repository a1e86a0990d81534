"""Real queries, corrupted as BART's pre-training corrupts text and as hurried people type; no model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar, Literal

from distill.generate.generator import Generator, Material, Progress, check_setting, check_shares

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {row[i]: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in ROWS for i in range(len(row))}  # keys beside a key
KINDS = ("delete", "infill", "permute", "typo", "truncate")
LONGEST_INFILLED = 3  # words that one drawn from the corpus stands for


@dataclass
class Noise(Generator):
    """Corrupts real queries: words deleted, infilled from the corpus, permuted, mistyped, or a query cut off as in search-as-you-type.

    Infilling and deletion are those of BART (arXiv 1910.13461), with a word of the corpus where BART has a mask.

    Args:
        kinds: how often each kind of change is drawn; those left out never are.
        rate: share of a query's words that a change touches, at least one.
        most_changes: changes made to one query, 1 to so many.
    """

    reads: ClassVar[Literal["queries"]] = "queries"

    kinds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 1.0))
    rate: float = 0.15
    most_changes: int = 2

    def __post_init__(self) -> None:
        check_shares("kinds", self.kinds, KINDS)
        check_setting("rate", 0 < self.rate <= 1, f"{self.rate}: a share of the words is above 0 and at most 1")
        check_setting("most_changes", self.most_changes > 0, f"{self.most_changes}: must be at least 1")

    def prepare(self, material: Material) -> None:
        self._words, self._weights = material.statistics.vocabulary

    def write(self, texts: Sequence[str], counts: Sequence[int], draw: random.Random, progress: Progress) -> list[list[str]]:
        changes = [getattr(self, f"_{kind}") for kind in self.kinds]
        weights = list(accumulate(self.kinds.values()))
        made: list[list[str]] = []
        for text, count in zip(texts, counts, strict=True):
            words = text.split()
            made.append([])
            for _ in range(count):
                changed = words.copy()
                for change in draw.choices(changes, cum_weights=weights, k=1 + int(draw.random() * self.most_changes)):
                    change(changed, draw)
                made[-1].append(" ".join(changed))
        progress(sum(counts))
        return made

    def _touched(self, words: list[str]) -> int:
        return max(1, round(self.rate * len(words)))

    def _delete(self, words: list[str], draw: random.Random) -> None:
        for _ in range(min(self._touched(words), len(words) - 1)):
            del words[int(draw.random() * len(words))]

    def _infill(self, words: list[str], draw: random.Random) -> None:
        for word in draw.choices(self._words, cum_weights=self._weights, k=self._touched(words)):
            start = int(draw.random() * (len(words) + 1))
            words[start : start + int(draw.random() * min(LONGEST_INFILLED + 1, len(words)))] = [word]

    def _permute(self, words: list[str], draw: random.Random) -> None:
        for _ in range(self._touched(words)):
            words.insert(int(draw.random() * len(words)), words.pop(int(draw.random() * len(words))))

    def _typo(self, words: list[str], draw: random.Random) -> None:
        for _ in range(self._touched(words)):
            at = int(draw.random() * len(words))
            words[at] = mistype(words[at], draw)

    def _truncate(self, words: list[str], draw: random.Random) -> None:
        """Leaves between half of the letters and all but one."""
        text = " ".join(words)
        words[:] = text[: max(1, int(len(text) * (1 + draw.random()) / 2))].split()


def mistype(word: str, draw: random.Random) -> str:
    """One letter of it doubled, left out, exchanged with the next or with a key beside it."""
    at, kind = int(draw.random() * len(word)), draw.random()
    letter, before, after = word[at], word[:at], word[at + 1 :]
    if kind < 0.25:
        return before + letter + letter + after
    if kind < 0.5 and len(word) > 2:
        return before + after
    if kind < 0.75 and after:
        return before + after[0] + letter + after[1:]
    keys = NEIGHBOURS.get(letter, letter)
    return before + keys[int(draw.random() * len(keys))] + after
