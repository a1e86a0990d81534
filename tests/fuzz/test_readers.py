"""Whatever bytes a file holds, a reader gives its records or one line that names the file: no other error, no end of time or memory.

A short seeded run by default; FUZZ_SECONDS=600 gives each reader so long, with other examples every time; -s says how many it saw.
"""

from __future__ import annotations

import functools
import gzip
import json
import operator
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commands import distill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.encoders.cross_folder import load_cross_encoder, new_cross_encoder
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.towers import Towers, load_towers
from distill.files.atomic import read_json
from distill.generate import Generator
from distill.metrics.trec_runs import read_trec
from distill.modules.start import read_checkpoint
from distill.records import BadInput
from distill.teachers.candidates import find_pair_rows, open_pair_stores, pairs_fingerprints, read_scored_candidates
from distill.teachers.mined import read_negatives
from distill.teachers.negatives import JudgedQueries, MinedNegatives
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels, read_qrels
from distill.texts.sources import MsMarcoTsv, QueryFile
from distill.texts.tables import read_rows
from distill.texts.texts import Texts
from distill.texts.tokens import load_or_tokenize
from distill.vectors.store import VectorStore
from distill.vectors.store_plan import rows_written
from distill.vectors.store_writer import StoreWriter

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
FEW = 20  # where a whole verb runs or a model is loaded
LONGEST = 20.0  # seconds of one example, on whatever core

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
SEEN: list[str] = []  # a line a reader
REFUSED: list[str] = []  # what was said of examples of the reader at hand
CONTENT = st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))


@pytest.fixture(scope="module", autouse=True)
def seen() -> Iterator[None]:
    yield
    print("", *SEEN, sep="\n")


def fuzzed(check: Callable[[Any], None], strategy: st.SearchStrategy = CONTENT, examples: int = 100) -> None:
    """`check` of many examples: so many that are always the same, or others for FUZZ_SECONDS."""
    begin, first, count = time.monotonic(), True, 0
    REFUSED.clear()

    def timed(example: Any) -> None:
        nonlocal count
        count += 1
        start = time.process_time()
        try:
            check(example)
        except BadInput as error:
            REFUSED.append(str(error))
            assert "\n" not in str(error) and len(str(error)) <= 2000
        assert time.process_time() - start < LONGEST

    while first or time.monotonic() < begin + SECONDS:
        chosen = settings(
            max_examples=examples,
            derandomize=not SECONDS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        chosen(given(strategy)(timed))()
        first = False
    name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
    SEEN.append(f"{name}: {count} examples in {time.monotonic() - begin:.0f} s, {len(REFUSED)} refused")


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with bytes replaced, cut out or put in."""
    edit = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), st.one_of(st.binary(max_size=8), st.sampled_from(PIECES)))

    def applied(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = whole
        for place, gone, put in edits:
            content = content[:place] + put + content[place + gone :]
        return content

    return st.lists(edit, min_size=1, max_size=4).map(applied)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=10),
        st.sampled_from(["../../x", "/etc/passwd", "documents", 10**400]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)),
    max_leaves=8,
)


def altered(whole: bytes) -> st.SearchStrategy[bytes]:
    """A JSON file with a few of its values, at any depth, left out or replaced by others; or with bytes replaced."""
    value = json.loads(whole)
    edit = st.tuples(st.sampled_from(list(places(value))), st.booleans(), JSON)

    def applied(edits: list[tuple[tuple, bool, Any]]) -> bytes:
        content = json.loads(whole)
        for place, gone, put in edits:
            with suppress(LookupError, TypeError):  # an earlier edit took it away
                holder = functools.reduce(operator.getitem, place[:-1], content)
                holder[place[-1]] = put
                if gone:
                    del holder[place[-1]]
        return json.dumps(content).encode()

    return st.one_of(st.lists(edit, min_size=1, max_size=3).map(applied), mutated(whole))


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Where each value lies, as keys and numbers from the outside in."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(inner, (*at, key))


def ran(code: int, told: str) -> bool:
    """Whether a verb did its work; if not, it said why in one line."""
    assert code in (0, 2) and "Traceback" not in told, told
    refusals = [line for line in told.splitlines() if line.startswith("distill ")]
    assert len(refusals) == (code == 2), told
    REFUSED.extend(refusals)
    return code == 0


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


@pytest.mark.parametrize("name", ["rows.txt", "rows.tsv", "rows.csv", "rows.jsonl", "rows.parquet"])
def test_tables(tmp_path: Path, name: str) -> None:
    def check(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        for row in read_rows(tmp_path / name):
            assert isinstance(row.text, str) and row.place.startswith(str(tmp_path / name))

    fuzzed(check)


def test_parquet_tables(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["one", "two"]}), path)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert all(isinstance(row.text, str) for row in read_rows(path))

    fuzzed(check, mutated(path.read_bytes()))


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


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.parquet", "vectors.index", "ids.txt"])
def test_vectors_to_import(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    vectors, ids = np.eye(3, dtype=np.float32), tmp_path / "ids.txt"
    ids.write_text("a\nb\nc\n")
    np.save(tmp_path / "vectors.npy", vectors)
    if name == "vectors.parquet":
        arrow, parquet = (pytest.importorskip(module) for module in ("pyarrow", "pyarrow.parquet"))
        parquet.write_table(arrow.table({"id": ["a", "b", "c"], "vector": list(vectors)}), tmp_path / name)
    if name == "vectors.index":
        faiss = pytest.importorskip("faiss")
        index = faiss.IndexFlatIP(3)
        index.add(vectors)
        faiss.write_index(index, str(tmp_path / name))
    given = [] if name == "vectors.parquet" else ["--ids", ids]
    path = tmp_path / ("vectors.npy" if name == "ids.txt" else name)

    def check(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        worked = ran(distill("import", "--vectors", path, *given, "--name", "x", "--out", tmp_path / "out"), capfd.readouterr().err)
        assert (tmp_path / "out").exists() == worked, "partial output"
        if worked:
            VectorStore(tmp_path / "out" / "documents").verify()
            shutil.rmtree(tmp_path / "out")

    fuzzed(check, mutated((tmp_path / name).read_bytes()), examples=FEW)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    writer = StoreWriter(tmp_path / "store" / "documents", Ids.of(["a", "b", "c"]), 4, Maker("m", "f"), "t")
    writer.write_shard(0, np.eye(3, 4))
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


KEYS = ["rows", "width", "rows_per_shard", "maker", "texts", "checksums", "ids", "version"]


def test_manifests_of_any_values(store: Path) -> None:
    whole = json.loads((store / "manifest.json").read_text())

    def check(changes: dict) -> None:
        (store / "manifest.json").write_text(json.dumps({**whole, **changes}))
        opened = VectorStore(store)
        opened.verify()
        assert len(opened.ids) == len(opened)  # or there would be no rows to ask for
        opened.take(np.arange(len(opened)))

    fuzzed(check, st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3))


def test_plans_of_unfinished_stores(store: Path) -> None:
    (store / "manifest.json").unlink()
    given = Ids.of(["a", "b", "c"]), 4, Maker("m", "f"), "t"

    def check(content: bytes) -> None:
        (store / "plan.json").write_bytes(content)
        rows_written(store)
        StoreWriter(store, *given).finish()
        VectorStore(store).verify()
        (store / "manifest.json").unlink()

    fuzzed(check, altered((store / "plan.json").read_bytes()))


@pytest.fixture
def source(tmp_path: Path) -> MsMarcoTsv:
    root = tmp_path / "texts"
    root.mkdir()
    (root / "collection.tsv").write_text("".join(f"d{i}\tdocument {i}\n" for i in range(5)))
    (root / "queries.train.tsv").write_text("".join(f"q{i}\tquery {i}\n" for i in range(5)))
    (root / "queries.dev.tsv").write_text("".join(f"e{i}\tanother {i}\n" for i in range(5)))
    return MsMarcoTsv(str(root))


IDS = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["q0\td1", "q0\td2", "q1\td0", "q9\td0", "q0\td9", "\t", "q2"])), min_size=1)


def test_stores_of_pairs(source: MsMarcoTsv, tmp_path: Path) -> None:
    """Whatever ids it holds and however wide it is."""
    texts, *_ = pairs_fingerprints(source.queries("train"), source.documents())

    def check(example: tuple[list[str], int]) -> None:
        folder = tmp_path / "pairs" / "pairs-train"
        shutil.rmtree(folder, ignore_errors=True)
        writer = StoreWriter(folder, Ids.of(example[0]), example[1], Maker("m", "f"), texts)
        writer.write_shard(0, np.ones((len(example[0]), example[1])))
        writer.finish()
        (opened,) = open_pair_stores(str(folder.parent), source, "train")
        found = read_scored_candidates(opened, 2)
        assert all(len(documents) == 2 for documents in found.values())
        rows = find_pair_rows(opened, found, found.values())
        assert [opened.ids[row] for row in rows] == [f"{query}\t{document}" for query, those in found.items() for document in those]

    fuzzed(check, st.tuples(IDS.filter(lambda ids: not any("\0" in id_ for id_ in ids)), st.integers(1, 5)))


def test_files_of_hard_negatives(source: MsMarcoTsv, tmp_path: Path) -> None:
    labelled = JudgedQueries(source, "train", source.queries("train"), Qrels({}, "train"), source.documents().ids)
    line = json.dumps({"query": "q1", "positive": "d1", "negatives": ["d2", "d3"]}).encode() + b"\n"

    def check(content: bytes) -> None:
        (tmp_path / "negatives.jsonl").write_bytes(content)
        examples = MinedNegatives(str(tmp_path / "negatives.jsonl")).select_pairs(labelled)
        assert (examples.pools < 5).all() and (examples.positives >= 0).all()

    fuzzed(check, st.one_of(mutated(line * 3), altered(line), CONTENT))


@pytest.mark.parametrize("name", ["plan.json", "manifest.json", "00000.part", "00001.part.npz", "made.jsonl"])
def test_generated_queries(
    source: MsMarcoTsv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """A half made or finished folder with bytes changed: named, or the same queries come out; its file is read as any."""
    monkeypatch.setattr(Generator, "queries_per_shard", 8)
    command = ["generate", "--generator", "Crop", "--source", "MsMarcoTsv", "--source.root", source.root, "--count", 16, "--out"]
    made, half = tmp_path / "made", tmp_path / "half" / "made"
    assert distill(*command, made) == 0
    with monkeypatch.context() as dies:
        dies.setattr("distill.generate.generate.join_shards", lambda maker: None)
        assert distill(*command, half) == 0
    folder = half if (half / name).exists() else made
    whole, expected = (folder / name).read_bytes(), (made / "made.jsonl").read_bytes()
    shutil.copytree(folder, tmp_path / "kept")

    def check(content: bytes) -> None:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "kept", folder)
        (folder / name).write_bytes(content)
        if name == "made.jsonl":
            assert all(isinstance(text, str) for text in QueryFile(str(folder / name)).queries())
        elif ran(distill(*command, folder), capfd.readouterr().err):
            assert (folder / "made.jsonl").read_bytes() == expected

    fuzzed(check, altered(whole) if name.endswith(".json") else mutated(whole), examples=FEW)


@pytest.mark.parametrize("name", ["*.npy", "*.xxh3"])
def test_kept_tokens(source: MsMarcoTsv, teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What was kept and changed since is made again."""
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    encoder, texts = load_encoder(str(teacher_folder)), source.queries("train")
    expected = [load_or_tokenize(texts, encoder, "query").ids(row).tolist() for row in range(5)]
    (path,) = (tmp_path / "cache").glob(f"tokens/{name}")

    def check(content: bytes) -> None:
        path.write_bytes(content)
        found = load_or_tokenize(texts, encoder, "query")
        assert [found.ids(row).tolist() for row in range(5)] == expected

    fuzzed(check, mutated(path.read_bytes()))


def test_folders_of_hard_negatives(tmp_path: Path) -> None:
    from distill.files.atomic import write_json
    from distill.files.fingerprints import file_fingerprint

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
        worked = ran(distill("evaluate", tmp_path / "run", "--split", "dev", "--out", out), capfd.readouterr().err)
        assert out.exists() == worked
        out.unlink(missing_ok=True)

    as_json = json.dumps(yaml.safe_load(whole)).encode()  # which is YAML too
    fuzzed(check, st.one_of(altered(as_json), mutated(whole), CONTENT), examples=FEW)


@pytest.fixture(scope="module")
def evaluated(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(run_folder, folder)
    assert distill("evaluate", folder, "--split", "dev") == 0
    (folder / "health.jsonl").write_text('{"step": 3, "fault": "x", "message": "a warning"}\n')
    return folder


@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "health.jsonl", "run.json", "runs/dev/student.trec"])
def test_reports(evaluated: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    whole = (run / name).read_bytes()

    def check(content: bytes) -> None:
        (run / name).write_bytes(content)
        worked = ran(distill("report", run), capfd.readouterr().err)
        assert (run / "report.html").exists() == worked
        (run / "report.html").unlink(missing_ok=True)

    last = whole.splitlines(keepends=True)[-1]
    lines = st.one_of(mutated(whole), altered(last).map(whole.__add__) if name.endswith(".jsonl") else CONTENT)
    fuzzed(check, altered(whole) if name.endswith(".json") else lines, examples=FEW)


def test_a_report_reads_nothing_elsewhere(evaluated: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    (tmp_path / "elsewhere.trec").write_text("q Q0 secret 1 1 x\n")
    results = json.loads((run / "results.json").read_text())
    results["systems"]["../../../elsewhere"] = results["systems"]["student"]
    (run / "results.json").write_text(json.dumps(results))
    assert distill("report", run) == 2
    assert "outside" in capfd.readouterr().err


def test_sweeps(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep.yaml"
    plan = yaml.safe_load((Path(__file__).parents[2] / "conf" / "sweep" / "learning_rate.yaml").read_text())
    monkeypatch.setattr("distill.training.sweep.subprocess.Popen", lambda *_: pytest.fail("a trial was started"))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert not ran(distill("sweep", path, "--trials", 0, "--out", tmp_path / "out"), capfd.readouterr().err)

    plan["parameters"] = {"x": {"min": 1}}
    whole = json.dumps(plan).encode()
    fuzzed(check, st.one_of(mutated(whole), CONTENT))


def test_configurations(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "config.yaml", tmp_path / "out"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        code = distill("encode", "--config", path, "--teacher", tmp_path / "none", "--out", out)
        assert not ran(code, capfd.readouterr().err) and not out.exists()

    whole = yaml.safe_dump(
        {"source": {"class_path": "MsMarcoTsv", "init_args": {"root": str(tmp_path), "holdout": 3}}, "precision": "fp32"}
    )
    fuzzed(check, st.one_of(mutated(whole.encode()), CONTENT), examples=FEW)


MODEL_FILES = ["modules.json", "config.json", "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json"]


@pytest.mark.parametrize("name", [*MODEL_FILES, "router_config.json", "cross_encoder.json"])
def test_model_folders(teacher_folder: Path, tmp_path: Path, name: str) -> None:
    folder, load = tmp_path / "model", load_towers
    if name == "router_config.json":
        Towers(load_encoder(str(teacher_folder)), load_encoder(str(teacher_folder))).save_pretrained(folder)
    elif name == "cross_encoder.json":
        new_cross_encoder(str(teacher_folder), "dual_pooling").save_pretrained(folder)
        load = load_cross_encoder
    else:
        shutil.copytree(teacher_folder, folder)

    def check(content: bytes) -> None:
        (folder / name).write_bytes(content)
        load(str(folder))

    fuzzed(check, altered((folder / name).read_bytes()), examples=FEW)


@pytest.mark.parametrize("path", ["../teacher", "/etc", "0_Transformer/../../teacher"])
def test_a_model_folder_names_nothing_outside_of_it(teacher_folder: Path, tmp_path: Path, path: str) -> None:
    shutil.copytree(teacher_folder, tmp_path / "teacher")
    shutil.copytree(teacher_folder, tmp_path / "model")
    entries = json.loads((tmp_path / "model" / "modules.json").read_text())
    entries[0]["path"] = path
    (tmp_path / "model" / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(BadInput, match="outside of it"):
        load_encoder(str(tmp_path / "model"))


def test_a_run_folder_calls_nothing_else(run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["data"]["source"] = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "it-ran")]}}
    path.write_text(yaml.safe_dump(config))
    assert distill("evaluate", tmp_path / "run") == 2
    assert "subprocess.Popen: is no source of texts" in capfd.readouterr().err
    assert not (tmp_path / "it-ran").exists()
