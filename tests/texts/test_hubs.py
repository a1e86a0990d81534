"""The hubs' own libraries read data sets that lie on this machine; nothing here reaches a network."""

import json
import os
import socket
import subprocess
import sys

import pytest
import yaml

from distill.records import BadInput
from distill.texts.hubs import HfDataset, IrDatasets

DOCUMENTS = {"d1": "the old river", "d2": "a new garden", "d3": 'bread, "red"'}
QUERIES = {"q1": "what is a river", "q2": "how to find bread"}


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))

    def refuse(*_):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def tsv(rows):
    return "".join(f"{id_}\t{text}\n" for id_, text in rows.items())


@pytest.fixture
def registered(tmp_path):
    """Two data sets in ir_datasets' registry: a corpus with judged queries, and queries alone."""
    hub = pytest.importorskip("ir_datasets")
    root = tmp_path / "placed"
    root.mkdir()
    (root / "documents.tsv").write_text(tsv(DOCUMENTS))
    (root / "queries.tsv").write_text(tsv(QUERIES))
    (root / "more.tsv").write_text(tsv({"t1": "where is the market", "t2": "What  is a RIVER"}))
    (root / "qrels.txt").write_text("q1 0 d1 2\nq2 0 d3 1\nq2 0 d2 0\n")
    names = [f"test-{tmp_path.name}", f"test-{tmp_path.name}/train"]
    whole = hub.create_dataset(*(str(root / name) for name in ("documents.tsv", "queries.tsv", "qrels.txt")))
    for name, made in zip(names, (whole, hub.create_dataset(queries_tsv=str(root / "more.tsv"))), strict=True):
        hub.registry.register(name, made)
    return names


def test_ir_datasets(registered, monkeypatch):
    corpus, train = registered
    source = IrDatasets(corpus, {"train": train, "dev": corpus})
    assert source.splits() == ["train", "dev"] and source.name == corpus
    assert dict(zip(source.documents().ids, source.documents(), strict=True)) == DOCUMENTS
    assert list(source.queries("dev")) == list(QUERIES.values())
    assert list(source.queries("train").ids) == ["t1"]  # t2 says what q1 says
    assert source.qrels("train") is None
    assert source.qrels("dev").judgments == {"q1": {"d1": 2}, "q2": {"d3": 1, "d2": 0}}
    before = source.documents().fingerprint

    monkeypatch.setattr("ir_datasets.load", lambda _: pytest.fail("fetched again"))
    again = IrDatasets(corpus, {"train": train, "dev": corpus})
    assert again.documents().fingerprint == before and len(again.qrels("dev")) == 2


def test_files_placed_by_hand_stand_for_a_download(tmp_path):
    pytest.importorskip("ir_datasets")
    home = tmp_path / "home" / "msmarco-passage"
    for place, content in {
        "irds_version.txt": "v2",
        "collection.tsv": "0\tthe river\n1\tthe garden\n",
        "dev/small/queries.tsv": "7\twhat river\n",
        "dev/small/qrels": "7 0 1 1\n",
    }.items():
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_text(content)
    code = """
from distill.texts.hubs import IrDatasets
source = IrDatasets("msmarco-passage", {"dev": "msmarco-passage/dev/small"})
print(list(source.documents()), list(source.queries("dev")), source.qrels("dev").judgments)
"""
    environment = {**os.environ, "IR_DATASETS_HOME": str(home.parent)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.stdout.splitlines()[-1] == "['the river', 'the garden'] ['what river'] {'7': {'1': 1}}", found.stderr


@pytest.fixture
def hub_folder(tmp_path):
    """A data set as MTEB lays it out, its judgments beside it in a folder of their own as BEIR has them."""
    for folder, parts in {"nq": ("corpus", "queries", "default"), "nq-qrels": ("default",)}.items():
        root = tmp_path / folder
        files = {
            "corpus": {"corpus": [{"_id": id_, "title": "T" * (id_ == "d2"), "text": text} for id_, text in DOCUMENTS.items()]},
            "queries": {"queries": [{"_id": id_, "text": text} for id_, text in {**QUERIES, "t1": "where is it"}.items()]},
            "default": {
                "dev": [{"query-id": "q1", "corpus-id": "d1", "score": 1.0}],
                "test": [{"query-id": "q2", "corpus-id": "d3", "score": 2.0}],
            },
        }
        configs = []
        for part in parts:
            for split, rows in files[part].items():
                path = root / part / f"{split}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            splits = [{"split": split, "path": f"{part}/{split}.jsonl"} for split in files[part]]
            configs.append({"config_name": part, "data_files": splits})
        (root / "README.md").write_text("---\n" + yaml.safe_dump({"configs": configs}) + "---\n")
    return tmp_path / "nq"


@pytest.mark.parametrize("beside", [False, True])
def test_hugging_face(hub_folder, beside, monkeypatch):
    datasets = pytest.importorskip("datasets")
    judgments = f"{hub_folder}-qrels" if beside else None
    source = HfDataset(str(hub_folder), ["dev", "test"], judgments=judgments)
    assert source.splits() == ["train", "dev", "test"]  # the queries that no split judges
    assert list(source.queries("train")) == ["where is it"]
    assert list(source.queries("test").ids) == ["q2"]
    assert source.qrels("test").judgments == {"q2": {"d3": 2}}
    assert list(source.documents()) == ["the old river", "T a new garden", 'bread, "red"']
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("fetched again"))
    assert len(HfDataset(str(hub_folder), ["dev", "test"], judgments=judgments).documents()) == 3


def test_what_no_hub_has_is_refused_in_one_line(tmp_path, capfd):
    pytest.importorskip("ir_datasets")
    unknown = IrDatasets("no-such-corpus", {"train": "msmarco-passage/train"})
    with pytest.raises(BadInput, match="no-such-corpus: no such data set, or no way to it"):
        unknown.documents()
    with pytest.raises(BadInput, match="nobody/nothing, judgments, test: no such data set"):
        HfDataset("nobody/nothing", ["test"]).splits()
    assert not any((tmp_path / "cache" / "hubs").rglob("*.*"))
    assert "Traceback" not in capfd.readouterr().err


def test_a_network_that_is_down_is_one_line(tmp_path, capfd, monkeypatch):
    pytest.importorskip("ir_datasets")
    source = IrDatasets("msmarco-passage", {"dev": "msmarco-passage/trec-dl-2020/judged"})
    with pytest.raises(
        BadInput, match=r"msmarco-passage/trec-dl-2020/judged: no such data set, or no way to it.*mend the name or the network"
    ):
        source.queries("dev")
    assert capfd.readouterr().err == ""
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("package", ["ir_datasets", "datasets"])
def test_a_missing_package_names_the_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    source = IrDatasets("a", {"dev": "a"}) if package == "ir_datasets" else HfDataset("a", ["dev"])
    with pytest.raises(BadInput, match=rf"needs the package {package}: pip install '\.\[hub\]' in a checkout of distill"):
        source.queries("dev")


def test_the_stream_breaking_off_leaves_no_file(registered, monkeypatch):
    corpus, _ = registered

    class BrokenOff:
        def docs_iter(self):
            yield from list(hub_load(corpus).docs_iter())[:2]
            raise ConnectionError("connection reset")

    import ir_datasets

    hub_load = ir_datasets.load
    monkeypatch.setattr("ir_datasets.load", lambda _: BrokenOff())
    source = IrDatasets(corpus, {"dev": corpus})
    with pytest.raises(BadInput, match="ConnectionError: connection reset"):
        source.documents()
    monkeypatch.setattr("ir_datasets.load", hub_load)
    assert len(source.documents()) == 3
