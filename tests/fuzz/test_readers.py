"""Whatever bytes a file holds, a reader gives its records or one line that names the file: no other error, no end of time or memory.

A short seeded run by default; FUZZ_SECONDS=600 gives each reader so long, with other examples every time.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import distill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.artefacts import read_json
from distill.data.ids import Ids
from distill.data.mined import read_negatives
from distill.data.qrels import read_qrels
from distill.data.store import StoreWriter, VectorStore
from distill.data.texts import Texts
from distill.encoders.folder import load_encoder
from distill.metrics.runs import read_trec
from distill.modules.start import read_checkpoint
from distill.records import BadInput

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
FEW = 20  # where a whole verb runs or a model is loaded
LONGEST = 20.0  # seconds of one example, on a busy machine

# pieces that files of these kinds are made of, and what breaks readers
PIECES = [
    b"\t",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"0",
    b"-1",
    b"1e400",
    b"NaN",
    b"q1",
    b"d1",
    b"Q0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"\\ud800",
]
PIECES += [b'{"_id": "a", "text": "b"}', b'{"_id": 1}', b"[]", b"{", b"}", b"[" * 2000, b'{"text": null}', b"null", b"true", b"9" * 5000]
PIECES += [
    b"query-id\tcorpus-id\tscore\n",
    b"\x93NUMPY",
    b"PK\x03\x04",
    b"../" * 9,
    b"\xed\xa0\x80",
    "\u2028\u0130".encode(),
    b"a: &a [*a]\n",
    b"!!python/object:os.system",
]
CONTENT = st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))


def fuzzed(check: Callable[[bytes], None], strategy: st.SearchStrategy = CONTENT, examples: int = 100) -> None:
    """`check` of many examples: so many that are always the same, or others for FUZZ_SECONDS."""
    end, first = time.monotonic() + SECONDS, True

    def timed(example: bytes) -> None:
        start = time.monotonic()
        try:
            check(example)
        except BadInput as error:
            assert "\n" not in str(error) and len(str(error)) < 4000
        assert time.monotonic() - start < LONGEST

    while first or time.monotonic() < end:
        chosen = settings(
            max_examples=examples,
            derandomize=not SECONDS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        chosen(given(strategy)(timed))()
        first = False


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with bytes replaced, cut out or put in."""
    edit = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), st.one_of(st.binary(max_size=8), st.sampled_from(PIECES)))

    def applied(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = whole
        for place, gone, put in edits:
            content = content[:place] + put + content[place + gone :]
        return content

    return st.lists(edit, min_size=1, max_size=4).map(applied)


def read_texts(path: Path) -> None:
    texts = Texts.open(path)
    assert len(list(texts)) == len(texts) == len(list(texts.ids))
    assert all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("name", ["texts.tsv", "texts.jsonl"])
def test_texts(tmp_path: Path, name: str) -> None:
    def check(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        read_texts(tmp_path / name)

    fuzzed(check)


def test_gzipped_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))

    def check(content: bytes) -> None:
        (tmp_path / "texts.tsv.gz").write_bytes(content)
        read_texts(tmp_path / "texts.tsv.gz")
        shutil.rmtree(tmp_path / "cache")

    fuzzed(check, mutated(gzip.compress(b"a\tone\nb\ttwo\n" * 20, mtime=0)))


READERS: dict[str, Callable[[Path], object]] = {
    "qrels.tsv": read_qrels,
    "run.trec": read_trec,
    "manifest.json": lambda path: read_json(path, "manifest"),
    "last.ckpt": read_checkpoint,
}


@pytest.mark.parametrize("name", READERS)
def test_single_files(tmp_path: Path, name: str) -> None:
    def check(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        READERS[name](tmp_path / name)

    fuzzed(check)


def test_checkpoints(tmp_path: Path) -> None:
    """A whole one with a few bytes changed; what a pickle would run is never run."""
    path = tmp_path / "last.ckpt"
    torch.save({"global_step": 3, "state_dict": {"weight": torch.arange(4.0)}}, path)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert read_checkpoint(path)["global_step"] == 3

    fuzzed(check, mutated(path.read_bytes()))


class RunsCode:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    trap = RunsCode(tmp_path / "it-ran")
    torch.save({"global_step": 1, "state_dict": trap}, tmp_path / "last.ckpt")
    with pytest.raises(BadInput, match="not a checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")
    np.save(tmp_path / "vectors.npy", np.array([trap], object))
    (tmp_path / "ids.txt").write_text("a\n")
    assert (
        distill("import", "--vectors", tmp_path / "vectors.npy", "--ids", tmp_path / "ids.txt", "--name", "x", "--out", tmp_path / "out")
        == 2
    )
    assert not (tmp_path / "it-ran").exists() and not (tmp_path / "out").exists()


def test_vectors_to_import(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    path = tmp_path / "vectors.npy"
    np.save(path, np.eye(3, dtype=np.float32))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        command = ["import", "--vectors", path, "--ids", tmp_path / "ids.txt", "--name", "x", "--out", tmp_path / "out"]
        code = distill(*command)
        assert code in (0, 2)
        assert (tmp_path / "out").exists() == (code == 0), "partial output"
        if code == 0:
            VectorStore(tmp_path / "out" / "documents").verify()
            shutil.rmtree(tmp_path / "out")
        capfd.readouterr()

    fuzzed(check, mutated(path.read_bytes()), examples=FEW)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    writer = StoreWriter(tmp_path / "store" / "documents", Ids.of(["a", "b", "c"]), 4, {"name": "m", "fingerprint": "f"}, "t")
    writer.write(0, np.eye(3, 4))
    writer.finish()
    return writer.folder


@pytest.mark.parametrize("name", ["manifest.json", "ids.npy", "order.npy", "00000.npy"])
def test_stores(store: Path, name: str) -> None:
    """Any file of a store with a few bytes changed: found by `verify`, or without consequence."""
    whole = (store / name).read_bytes()

    def check(content: bytes) -> None:
        (store / name).write_bytes(content)
        opened = VectorStore(store)
        opened.verify()
        assert opened[:].shape == opened.take(np.arange(len(opened))).shape == opened.shape
        assert opened.ids.rows(list(opened.ids)).tolist() == [0, 1, 2]

    fuzzed(check, mutated(whole))


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.sampled_from(["../../x", "/etc/passwd", "documents"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)),
    max_leaves=8,
)
KEYS = ["rows", "width", "rows_per_shard", "maker", "texts", "checksums", "ids", "version"]


def test_manifests_of_any_values(store: Path) -> None:
    whole = json.loads((store / "manifest.json").read_text())

    def check(changes: dict) -> None:
        (store / "manifest.json").write_text(json.dumps({**whole, **changes}))
        opened = VectorStore(store)
        opened.verify()
        opened.take(np.arange(len(opened)))

    fuzzed(check, st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3))


def test_folders_of_hard_negatives(tmp_path: Path) -> None:
    from distill.artefacts import file_fingerprint, write_json

    def check(content: bytes) -> None:
        (tmp_path / "negatives.jsonl").write_bytes(content)
        write_json(tmp_path / "manifest.json", {"checksum": file_fingerprint(tmp_path / "negatives.jsonl")})
        list(read_negatives(tmp_path))

    fuzzed(check)


@pytest.mark.parametrize("name", ["config.yaml", "run.json"])
def test_run_folders(run_folder: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What a run folder says of itself, changed; nothing is written beside."""
    shutil.copytree(run_folder, tmp_path / "run")
    whole = (tmp_path / "run" / name).read_bytes()
    out = tmp_path / "out" / "results.json"

    def check(content: bytes) -> None:
        (tmp_path / "run" / name).write_bytes(content)
        code = distill("evaluate", tmp_path / "run", "--split", "nothing", "--out", out)
        said = capfd.readouterr().err
        assert code == 2 and "Traceback" not in said and len(said.splitlines()) == 1, said
        assert not out.exists()

    fuzzed(check, st.one_of(mutated(whole), CONTENT), examples=FEW)


def test_configurations(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "config.yaml", tmp_path / "out"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        code = distill("encode", "--config", path, "--teacher", tmp_path / "none", "--out", out)
        said = capfd.readouterr().err
        assert code == 2 and "Traceback" not in said and len(said.splitlines()) == 1, said
        assert not out.exists()

    whole = yaml.safe_dump(
        {"source": {"class_path": "MsMarcoTsv", "init_args": {"root": str(tmp_path), "holdout": 3}}, "precision": "fp32"}
    )
    fuzzed(check, st.one_of(mutated(whole.encode()), CONTENT), examples=FEW)


@pytest.mark.parametrize("name", ["modules.json", "config.json", "config_sentence_transformers.json", "1_Pooling/config.json"])
def test_model_folders(teacher_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(teacher_folder, tmp_path / "model")
    path = tmp_path / "model" / name
    if not path.exists():
        pytest.skip(f"no {name} in such a folder")

    def check(content: bytes) -> None:
        path.write_bytes(content)
        load_encoder(str(tmp_path / "model"))

    fuzzed(check, mutated(path.read_bytes()), examples=FEW)


def test_a_run_folder_calls_nothing_else(run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["data"]["source"] = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "it-ran")]}}
    path.write_text(yaml.safe_dump(config))
    assert distill("evaluate", tmp_path / "run") == 2
    assert "subprocess.Popen: no class of this package" in capfd.readouterr().err
    assert not (tmp_path / "it-ran").exists()
