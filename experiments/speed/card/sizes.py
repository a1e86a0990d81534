"""How large everything is: what a card is measured with, and what its simulation is tried with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A transformer of random weights."""

    layers: int
    width: int
    heads: int
    inner: int  # numbers between the two products of a feed-forward part

    def forward_products(self, texts: list[tuple[int, int]], layers: int | None = None) -> float:
        """Floating-point operations of the matrix products over batches of `count` texts of `length` tokens; backward, twice as many.

        For each token: 4 matrices of 2 x 2 and 2 of 2 x 4 numbers, then 2 products with 3 tokens of 2 numbers.

        >>> Shape(1, 2, 1, 4).forward_products([(1, 3)])
        264.0
        """
        matrices = 8 * self.width**2 + 4 * self.width * self.inner  # operations for a token
        products = sum(count * length * (matrices + 4 * self.width * length) for count, length in texts)
        return float((layers or self.layers) * products)


@dataclass(frozen=True)
class Sizes:
    teacher: Shape  # of all-MiniLM-L6-v2, which students are cut from
    encoder: Shape  # of BERT-base
    writer: Shape  # of T5-small; each width of a head is 64
    vocabulary: int
    positions: int
    documents: int
    document_words: int
    queries: int
    query_words: int

    student_layers: tuple[int, ...]
    batches: tuple[int, ...]
    candidates: tuple[int, ...]
    warm_up: int
    texts_measured: int  # queries that the steps of a measurement read, within the limits of steps
    least_steps: int
    most_steps: int

    corpus: int
    corpus_width: int
    searches: tuple[int, ...]  # queries
    top: int

    tokens_per_batch: tuple[int, ...]
    passages: int  # encoded once a measurement
    teach_batch: int
    teach_steps: int
    written_from: int  # documents
    written_tokens: int
    square: int  # rows and columns of the product that says what the card can do

    def steps(self, batch: int) -> int:
        """How many steps of a batch are measured."""
        return max(self.least_steps, min(self.most_steps, self.texts_measured // batch))


CARD = Sizes(
    teacher=Shape(6, 384, 12, 1536),
    encoder=Shape(12, 768, 12, 3072),
    writer=Shape(6, 512, 8, 2048),
    vocabulary=30_522,
    positions=512,
    documents=20_000,
    document_words=82,
    queries=70_000,
    query_words=13,
    student_layers=(2, 6),
    batches=(64, 512, 2048),
    candidates=(0, 16),
    warm_up=6,
    texts_measured=51_200,
    least_steps=20,
    most_steps=200,
    corpus=8_841_823,
    corpus_width=768,
    searches=(6980, 32),
    top=100,
    tokens_per_batch=(16_384, 65_536, 262_144),
    passages=12_000,
    teach_batch=32,
    teach_steps=40,
    written_from=2048,
    written_tokens=32,
    square=8192,
)
TINY = Sizes(
    teacher=Shape(2, 32, 4, 64),
    encoder=Shape(1, 32, 4, 64),
    writer=Shape(1, 32, 4, 64),
    vocabulary=300,
    positions=64,
    documents=24,
    document_words=8,
    queries=32,
    query_words=5,
    student_layers=(1,),
    batches=(4,),
    candidates=(2,),
    warm_up=1,
    texts_measured=4,
    least_steps=1,
    most_steps=1,
    corpus=500,
    corpus_width=32,
    searches=(6,),
    top=10,
    tokens_per_batch=(64,),
    passages=24,
    teach_batch=4,
    teach_steps=1,
    written_from=4,
    written_tokens=4,
    square=32,
)
