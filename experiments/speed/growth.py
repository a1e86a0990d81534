"""How time per row and memory grow with the corpus: search, training input, encoding, from 10 thousand rows to a million."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpora import WIDTH, queries, random_store, student
from harness import alone, arguments, figure, peak_mb, report, threaded
from train import Batches, Steps, ours
from transformers import BertConfig, BertModel

from distill.data.loaders import TrainingLoader, make_collate
from distill.encoders.encoder import Encoder
from distill.encoders.maker import Maker
from distill.encoders.modules import Transformer
from distill.encoders.pooling import Pooling
from distill.encoders.tokenizing import TextSettings
from distill.encoders.towers import Towers
from distill.teachers.embedder import encode_set
from distill.teachers.local import LocalTeacher
from distill.teachers.stored import StoredQueries, StoredTeacher
from distill.texts.ids import Ids
from distill.texts.texts import Texts
from distill.texts.tokens import TokenArrays, load_or_tokenize
from distill.vectors.search import search
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

ROWS = (10_000, 100_000, 1_000_000)
QUERIES = 256


def stored(folder: Path, rows: int) -> VectorStore:
    writer = StoreWriter(folder / f"store-{rows}", Ids.of(map(str, range(rows))), WIDTH, Maker("random", ""), None)
    random = np.random.default_rng(0)
    for shard, held in writer.missing_shards():
        writer.write_shard(shard, random.standard_normal((len(held), WIDTH), np.float32))
    writer.finish()
    return VectorStore(writer.folder)


def repeated(tokens: TokenArrays, rows: int) -> TokenArrays:
    """Token arrays of as many texts: the given ones over and over."""
    copies = -(-rows // len(tokens))
    lengths = np.tile(tokens.lengths, copies)[:rows]
    return TokenArrays(np.tile(tokens.flat, copies), np.concatenate([[0], np.cumsum(lengths)]), tokens.pad_id)


def seconds_to_search(store: VectorStore) -> float:
    asked = torch.randn(QUERIES, WIDTH, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    search(asked, store, 100)
    return time.perf_counter() - start


def seconds_to_feed(tokens: TokenArrays, store: VectorStore) -> float:
    """One epoch of batches and their teacher's vectors, with nobody learning from them."""
    teacher = StoredTeacher(StoredQueries([store], [np.arange(len(store))]), store)
    start = time.perf_counter()
    for batch in TrainingLoader(make_collate(tokens, np.empty((len(tokens), 0), np.int64)), tokens.lengths, 64):
        teacher(batch)
    return time.perf_counter() - start


def seconds_to_encode(folder: Path, rows: int) -> float:
    """Texts to store through a model so small that everything around it shows."""
    folder = Path(tempfile.mkdtemp(dir=folder))  # what is there is not encoded again
    path = folder / "texts.tsv"
    path.write_text("".join(f"{row}\twhat is the meaning of number {row % 10_000:04d}\n" for row in range(rows)))
    tokenizer = student().tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    tiny = Encoder([Transformer(BertModel(config, add_pooling_layer=False).eval()), Pooling("mean")], tokenizer, TextSettings(64))
    start = time.perf_counter()
    teacher = LocalTeacher(Towers(tiny), "fp32", Maker("tiny", "", precision="fp32"))
    encode_set(teacher, Texts.open(path), "document", folder / "encoded")
    return time.perf_counter() - start


def training_memory(data: Path, folder: Path, documents: int) -> float:
    """Peak MB of a process that trains on the real queries and searches a corpus of `documents` to evaluate."""
    texts = queries(data)
    tokens = load_or_tokenize(texts, student(), "query")
    ours(Batches(Steps(tokens, 64), random_store(folder / "queries", texts)), "cpu")()
    seconds_to_search(VectorStore(folder / f"store-{documents}"))
    return peak_mb()


def main() -> None:
    given = arguments(__doc__)
    given.threads = given.threads[-1:]
    rows: list[dict[str, Any]] = []
    tokens = load_or_tokenize(queries(given.data), student(), "query")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_store(folder / "queries", queries(given.data))
        for _, setting in threaded(given):
            work = {
                "search, 256 queries": lambda count: seconds_to_search(stored(folder, count)),
                "training input": lambda count: seconds_to_feed(repeated(tokens, count), stored(folder, count)),
                "encode, tiny model": lambda count: seconds_to_encode(folder, count),
            }
            for what, seconds in work.items():
                seconds(ROWS[0])  # warm-up
                for count in ROWS:
                    rounds = 1 if what.startswith("encode") and count == ROWS[-1] else given.rounds  # minutes
                    taken = float(np.median([seconds(count) for _ in range(rounds)]))
                    rows.append(figure(f"{what}, {count:,} rows, {setting}", taken / count * 1e6, "us a row"))
        for count in ROWS:
            memory = alone(training_memory, given.data, folder, count)
            rows.append(figure(f"training over a corpus of {count:,}, peak memory", memory, "MB"))
    report("growth", given, {"rows": ROWS, "width": WIDTH}, rows)


if __name__ == "__main__":
    main()
