"""Queries cut out of documents by the statistics of real queries; no model."""

from __future__ import annotations

import random
import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ClassVar, Literal

from distill.generate.generator import Generator, Material, Progress, check_shares

KINDS = ("spans", "questions", "keywords", "titles", "sentences", "snippets")
DEFAULT = {"spans": 0.5, "questions": 0.25, "keywords": 0.15, "titles": 0.1}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
LONGEST_SENTENCE = 32  # words
SNIPPET_WORDS = (16, 64)


@dataclass
class Cut:
    """A document as words, where its sentences start, and the summed idf up to each word."""

    words: list[str]
    starts: list[int]  # of sentences; the last is the end of the document
    weights: list[float]

    def informative(self, draw: random.Random) -> int:
        """The place of a word, drawn by idf."""
        return min(bisect(self.weights, draw.random() * self.weights[-1]), len(self.words) - 1)


@dataclass
class Crop(Generator):
    """Cuts queries out of documents: as long as real ones, about the words that say something, spelt as real ones are.

    Spans lie around a word drawn by idf; questions begin as a real query does (`how long does`) and go on with a span; keywords are
    words drawn by idf, in the document's order; titles are a document's first words; sentences are whole ones. Snippets are passages of
    16 to 64 words: documents as matching text, as in LEAF (arXiv 2509.12539). All are queries, snippets too: the teacher embeds them in
    the role of a query, as that is what the student does with any text it is given.

    Args:
        kinds: how often each kind is drawn; those left out never are.
    """

    reads: ClassVar[Literal["documents"]] = "documents"

    kinds: dict[str, float] = field(default_factory=lambda: dict(DEFAULT))

    def __post_init__(self) -> None:
        check_shares("kinds", self.kinds, KINDS)

    def prepare(self, material: Material) -> None:
        self._statistics = material.statistics

    def write(self, texts: Sequence[str], counts: Sequence[int], draw: random.Random, progress: Progress) -> list[list[str]]:
        ways = [getattr(self, f"_{kind}") for kind in self.kinds]
        weights, lengths = list(accumulate(self.kinds.values())), self._statistics.lengths
        made = []
        for text, count in zip(texts, counts, strict=True):
            cut = self._cut(text)
            chosen = draw.choices(ways, cum_weights=weights, k=count if cut.words else 0)
            made.append([" ".join(way(cut, lengths[int(draw.random() * len(lengths))], draw)) for way in chosen])
        progress(sum(counts))
        return made

    def _cut(self, text: str) -> Cut:
        sentences = [self._statistics.words(sentence) for sentence in SENTENCE_END.split(text)]
        words = [word for sentence in sentences for word in sentence]
        idf, unknown = self._statistics.idf, self._statistics.unknown
        weights = accumulate([idf.get(word, unknown) for word in map(str.lower, words)])
        return Cut(words, list(accumulate(map(len, sentences), initial=0)), list(weights))

    def _spans(self, cut: Cut, length: int, draw: random.Random) -> list[str]:
        start = cut.informative(draw) - int(draw.random() * length)
        start = max(0, min(start, len(cut.words) - length))
        return cut.words[start : start + length]

    def _questions(self, cut: Cut, length: int, draw: random.Random) -> list[str]:
        openings = self._statistics.openings
        if not openings:
            return self._spans(cut, length, draw)
        opening = openings[int(draw.random() * len(openings))].split()
        start = cut.informative(draw)
        return opening + cut.words[start : start + max(1, length - len(opening))]

    def _keywords(self, cut: Cut, length: int, draw: random.Random) -> list[str]:
        return [cut.words[place] for place in sorted({cut.informative(draw) for _ in range(length)})]

    def _titles(self, cut: Cut, length: int, draw: random.Random) -> list[str]:
        return cut.words[:length]

    def _sentences(self, cut: Cut, length: int, draw: random.Random) -> list[str]:
        at = int(draw.random() * (len(cut.starts) - 1))
        return cut.words[cut.starts[at] : min(cut.starts[at + 1], cut.starts[at] + LONGEST_SENTENCE)]

    def _snippets(self, cut: Cut, length: int, draw: random.Random) -> list[str]:
        start = cut.starts[int(draw.random() * (len(cut.starts) - 1))]
        return cut.words[start : start + draw.randint(*SNIPPET_WORDS)]
