"""Texts of random words and models of random weights, on disk: all that a training, an encoding or a search needs, without a download."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, BertTokenizerFast, T5Config, T5ForConditionalGeneration

import distill
from card.sizes import Shape, Sizes
from distill.encoders.tokenizing import TextSettings

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LONGEST = 256  # tokens of a text


class World:
    """What the parts share, in one folder.

    Args:
        folder: where it lies; what is there already is not made again.
        sizes: how large it is.
    """

    def __init__(self, folder: Path, sizes: Sizes):
        self.folder, self.sizes = folder, sizes
        self.texts, self.teacher, self.encoder = folder / "texts", folder / "teacher", folder / "encoder"
        self.writer, self.store = folder / "writer", folder / "store"
        os.environ["DISTILL_CACHE"] = str(folder / "cache")  # tokens, and the teacher's top documents

    def prepare(self) -> None:
        """Makes everything; the teacher embeds the texts on the best device."""
        self._write_texts()
        self._write_encoder(self.teacher, self.sizes.teacher)
        self._write_encoder(self.encoder, self.sizes.encoder)
        self._write_writer()
        distill.encode(str(self.teacher), self.source(), str(self.store))

    def source(self) -> distill.MsMarcoTsv:
        return distill.MsMarcoTsv(str(self.texts))

    def passages(self, count: int) -> list[str]:
        """So many texts of documents, which repeat where there are fewer."""
        documents = self.source().documents()
        return documents.read(np.arange(count) % len(documents))

    def _write_texts(self) -> None:
        """Documents, and queries of two splits, each of which one document answers."""
        self.texts.mkdir(exist_ok=True)
        random, sizes = np.random.default_rng(0), self.sizes
        documents = make_texts(random, sizes.documents, sizes.document_words, sizes.vocabulary)
        write_lines(self.texts / "collection.tsv", [f"d{row}\t{text}" for row, text in enumerate(documents)])
        for split, count in (("train", sizes.queries), ("dev", 64)):
            queries = make_texts(random, count, sizes.query_words, sizes.vocabulary)
            answers = random.integers(sizes.documents, size=count)
            write_lines(self.texts / f"queries.{split}.tsv", [f"{split}{row}\t{text}" for row, text in enumerate(queries)])
            write_lines(self.texts / f"qrels.{split}.tsv", [f"{split}{row}\t0\td{answer}\t1" for row, answer in enumerate(answers)])

    def _write_encoder(self, folder: Path, shape: Shape) -> None:
        """A BERT with mean pooling, as sentence-transformers writes it."""
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=self.sizes.vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.inner,
            max_position_embeddings=self.sizes.positions,
            initializer_range=0.1,  # wide enough that texts differ
        )
        backbone = BertModel(config, add_pooling_layer=False).eval()
        modules = [distill.Transformer(backbone), distill.Pooling("mean"), distill.Normalize()]
        settings = TextSettings(min(LONGEST, self.sizes.positions))
        distill.Encoder(modules, self._make_tokenizer(), settings).save_pretrained(folder)

    def _write_writer(self) -> None:
        torch.manual_seed(0)
        shape, tokenizer = self.sizes.writer, self._make_tokenizer()
        config = T5Config(
            vocab_size=len(tokenizer),
            d_model=shape.width,
            d_kv=shape.width // shape.heads,
            d_ff=shape.inner,
            num_layers=shape.layers,
            num_heads=shape.heads,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.sep_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
        T5ForConditionalGeneration(config).save_pretrained(self.writer)
        tokenizer.save_pretrained(self.writer)

    def _make_tokenizer(self) -> BertTokenizerFast:
        """Every word of the texts is a token."""
        words = [*SPECIALS, *(f"w{number}" for number in range(self.sizes.vocabulary - len(SPECIALS)))]
        pieces = BertWordPieceTokenizer(vocab={word: number for number, word in enumerate(words)})
        return BertTokenizerFast(tokenizer_object=pieces._tokenizer, model_max_length=min(LONGEST, self.sizes.positions))


def make_texts(random: np.random.Generator, count: int, words: int, vocabulary: int) -> list[str]:
    """Texts of about `words` words, at least 2; low numbers are frequent, as in a language."""
    lengths = np.clip(random.gamma(4, words / 4, count), 2, 3 * words).astype(int)
    numbers = ((vocabulary - len(SPECIALS)) * random.random(int(lengths.sum())) ** 3).astype(int)
    parts = np.split(numbers, np.cumsum(lengths)[:-1])
    return [" ".join(f"w{number}" for number in part) for part in parts]


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
