"""Cuts queries from documents by the statistics of real queries, without a model."""

from __future__ import annotations

import math
import random
import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal

from distill.generate.generator import Generator, Progress, check_shares
from distill.generate.material import Material
from distill.generate.statistics import WORD, Statistics
from distill.texts.words import cut_words, is_unspaced, join_words

KINDS = ("spans", "questions", "keywords", "titles", "sentences", "snippets", "pieces")
DEFAULT_KINDS = {"spans": 0.5, "questions": 0.25, "keywords": 0.15, "titles": 0.1}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])(?:\s+|(?=\S))")
SENTENCE_ENDS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")  # the last three are those of Chinese and Japanese
LONGEST_SENTENCE = 32  # words
SNIPPET_WORDS = (16, 64)  # fewest and most
PIECE_WORDS = (3, 160)
LOWER_PIECES = 0.25  # share of the pieces that are put in lower case


@dataclass(frozen=True)
class WordedDocument:
    """A document split into words."""

    text: str  # as it is; its words are in the spelling of real queries
    words: list[str]
    sentence_starts: list[int]  # positions in `words`; the last one is the end of the document
    weights: list[float]  # cumulative sum of the words' idf

    def draw_place(self, rng: random.Random) -> int:
        """Draws the position of a word with a probability proportional to its idf."""
        return min(bisect(self.weights, rng.random() * self.weights[-1]), len(self.words) - 1)

    def draw_sentence(self, rng: random.Random) -> int:
        """Draws the number of a sentence, all with the same probability."""
        return int(rng.random() * (len(self.sentence_starts) - 1))


class Crop(Generator):
    """Cuts queries from documents, with the length and spelling of real queries, around informative words.

    Spans lie around a word drawn by idf. Questions begin like a real query (`how long does`) and go on with a span. Keywords are words
    drawn by idf, in the document's order. Titles are the first words of a document. Sentences are whole sentences. Snippets are passages
    of 16 to 64 words, which LEAF (arXiv 2509.12539) also learns from. Pieces are for a student that will meet queries of any kind: 3 to 160
    words, short ones as often as long ones on a logarithmic scale, spelt as in the document, but a quarter of them in lower case. The
    teacher embeds all of them, also those as long as passages, as queries, because the student embeds every text as a query.

    Args:
        kinds: weight of each kind in the random choice; a kind that is left out is never chosen.
    """

    reads: ClassVar[Literal["documents"]] = "documents"

    def __init__(self, kinds: dict[str, float] = DEFAULT_KINDS):
        check_shares("kinds", kinds, KINDS)
        self.kinds = kinds

    def prepare(self, material: Material) -> None:
        self.set_statistics(material.statistics)

    def set_statistics(self, statistics: Statistics) -> None:
        """Sets the statistics that the queries follow."""
        self._statistics = statistics

    def write(self, texts: Sequence[str], counts: Sequence[int], rng: random.Random, progress: Progress) -> list[list[str]]:
        cuts = {
            "spans": self._cut_span,
            "questions": self._cut_question,
            "keywords": self._pick_keywords,
            "titles": self._cut_title,
            "sentences": self._cut_sentence,
            "snippets": self._cut_snippet,
            "pieces": self._cut_piece,
        }
        choices = [cuts[kind] for kind in self.kinds]
        weights = list(accumulate(self.kinds.values()))
        lengths = self._statistics.lengths
        queries: list[list[str]] = []
        for text, count in zip(texts, counts, strict=True):
            document = self._split(text)
            queries.append([])
            for cut in rng.choices(choices, cum_weights=weights, k=count if document.words else 0):
                length = lengths[int(rng.random() * len(lengths))]
                queries[-1].append(join_words(cut(document, length, rng)))
        progress(sum(counts))
        return queries

    def _split(self, text: str) -> WordedDocument:
        sentences = [self._statistics.split_document(sentence) for sentence in SENTENCE_END.split(text)]
        words = [word for sentence in sentences for word in sentence]
        idf, unknown = self._statistics.idf, self._statistics.unknown
        bare = words if self._statistics.plain else [next(iter(WORD.findall(word)), word) for word in words]  # as idf knows them
        weights = accumulate([idf.get(word, unknown) for word in map(str.lower, bare)])
        return WordedDocument(text, words, list(accumulate(map(len, sentences), initial=0)), list(weights))

    # each of these methods takes a document and the length of a real query in words, and returns the words of a query

    def _cut_span(self, document: WordedDocument, length: int, rng: random.Random) -> list[str]:
        start = document.draw_place(rng) - int(rng.random() * length)
        start = max(0, min(start, len(document.words) - length))
        return document.words[start : start + length]

    def _cut_question(self, document: WordedDocument, length: int, rng: random.Random) -> list[str]:
        openings = self._statistics.openings
        if not openings:
            return self._cut_span(document, length, rng)
        opening = openings[int(rng.random() * len(openings))].split()
        start = document.draw_place(rng)
        return opening + document.words[start : start + max(1, length - len(opening))]

    def _pick_keywords(self, document: WordedDocument, length: int, rng: random.Random) -> list[str]:
        if is_unspaced(document.text):  # a few of its characters are no keywords
            return self._cut_span(document, length, rng)
        places = {document.draw_place(rng) for _ in range(length)}
        return [document.words[place] for place in sorted(places)]

    def _cut_title(self, document: WordedDocument, length: int, rng: random.Random) -> list[str]:
        return document.words[:length]

    def _cut_sentence(self, document: WordedDocument, length: int, rng: random.Random) -> list[str]:
        number = document.draw_sentence(rng)
        start, end = document.sentence_starts[number : number + 2]
        return document.words[start : min(end, start + LONGEST_SENTENCE)]

    def _cut_snippet(self, document: WordedDocument, length: int, rng: random.Random) -> list[str]:
        start = document.sentence_starts[document.draw_sentence(rng)]
        return document.words[start : start + rng.randint(*SNIPPET_WORDS)]

    def _cut_piece(self, document: WordedDocument, length: int, rng: random.Random) -> list[str]:
        words = cut_words(document.text.strip())
        fewest, most = PIECE_WORDS
        size = round(math.exp(rng.uniform(math.log(fewest), math.log(most))))
        last = max(0, len(words) - size)  # from where a piece of that size begins at the latest
        start = rng.randint(0, last)
        if rng.random() < 0.5:  # at the beginning of a sentence, where there is one
            start = next((place for place in range(start, 0, -1) if words[place - 1].rstrip().endswith(SENTENCE_ENDS)), 0)
        piece = " ".join("".join(words[start : start + size]).split())
        return [piece.lower() if rng.random() < LOWER_PIECES else piece]
