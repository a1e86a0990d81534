"""A source of ten lines outside the package: in a file of its own, so that a configuration can name it."""

from __future__ import annotations

from itertools import product

from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts

TOPICS = ["river", "music", "engine", "garden", "planet", "bread", "winter", "market"]
WORDS = {"train": ["old", "new", "red", "blue", "fast", "slow"], "dev": ["large"], "test": ["small"]}


class Topics(TextSource):
    def load_documents(self) -> Texts:
        return Texts.from_lists(TOPICS, [f"what is the best {topic} near a {topic}" for topic in TOPICS])

    def list_splits(self) -> list[str]:
        return list(WORDS)

    def load_queries(self, split: str) -> Texts:
        pairs = list(product(WORDS[split], TOPICS))
        return Texts.from_lists([f"{word}-{topic}" for word, topic in pairs], [f"find the {word} {topic}" for word, topic in pairs])

    def load_qrels(self, split: str) -> Qrels:
        return Qrels({f"{word}-{topic}": {topic: 1} for word, topic in product(WORDS[split], TOPICS)})
