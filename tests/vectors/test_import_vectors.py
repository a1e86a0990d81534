"""Vectors that already exist carry a student from training to export, with no teacher model on the machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import QUERY_MATCHING, distill
from conftest import make_teacher
from forks import run_python

from distill.vectors.store import TeacherStore, VectorStore

NAME = "someone/whose-model-is-elsewhere"
ORDER = np.random.default_rng(0).permutation(60)  # imported documents need not lie as their texts do


def saved(folder: Path, name: str, store: VectorStore, order: np.ndarray | None = None) -> list[Any]:
    """Options that import the vectors of a store, written as fp32 by another program."""
    order = np.arange(len(store)) if order is None else order
    np.save(folder / f"{name}.npy", store[:][order].astype(np.float32))
    (folder / f"{name}.txt").write_text("".join(f"{store.ids[row]}\n" for row in order))
    return ["--vectors", folder / f"{name}.npy", "--ids", folder / f"{name}.txt"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, store_folder: Path) -> dict[str, list[Any]]:
    """Options that import each set of the small world."""
    folder, teacher = tmp_path_factory.mktemp("files"), VectorStore(store_folder / "documents")
    sets = {split: saved(folder, split, VectorStore(store_folder / f"queries-{split}")) for split in ("train", "dev", "test")}
    return {"documents": saved(folder, "documents", teacher, ORDER), **sets}


def import_all(files: dict[str, list[Any]], out: Path) -> None:
    assert distill("import", *files["documents"], "--name", NAME, "--out", out) == 0
    for split in ("train", "dev", "test"):
        assert distill("import", *files[split], "--queries", split, "--out", out) == 0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, files: dict[str, list[Any]]) -> Path:
    out = tmp_path_factory.mktemp("imported") / "store"
    import_all(files, out)
    return out


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone half as wide as the teacher's vectors."""
    return make_teacher(tmp_path_factory.mktemp("narrow") / "backbone", width=16, layers=1, seed=1)


def train_arguments(narrow: Path, source: Path, store: Path, out: Path, epochs: int = 6) -> list[Any]:
    student = ["--model.student", "StudentFromBackbone", "--model.student.name", narrow, "--model.student.projection", "linear"]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", source, "--data.store", store, "--data.batch_size", 16]
    trainer = ["--trainer.max_epochs", epochs, "--trainer.precision", "32-true", "--trainer.accelerator", "cpu"]
    return ["train", *student, "--model.losses", QUERY_MATCHING, "--model.learning_rate", 0.005, *data, *trainer, "--out", out]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, narrow: Path, source_root: Path, store: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert distill(*train_arguments(narrow, source_root, store, out)) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    assert distill(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


def test_the_store_is_what_was_imported(store: Path, store_folder: Path) -> None:
    ours, theirs = TeacherStore(store), VectorStore(store_folder / "documents")
    np.testing.assert_array_equal(ours.documents[:], theirs[:][ORDER])
    assert list(ours.documents.ids) == [theirs.ids[row] for row in ORDER]
    np.testing.assert_array_equal(ours.queries("dev", "any")[:], VectorStore(store_folder / "queries-dev")[:])
    assert set(ours.query_sets()) == {"train", "dev", "test"}


def test_the_maker_says_what_is_known(store: Path) -> None:
    documents, queries = (json.loads((store / name / "manifest.json").read_text()) for name in ("documents", "queries-train"))
    assert documents["texts"] is queries["texts"] is None
    assert documents["maker"]["name"] == queries["maker"]["name"] == NAME
    assert (documents["maker"]["role"], queries["maker"]["role"]) == ("document", "query")
    assert documents["maker"]["origin"] == queries["maker"]["origin"] == "import"
    assert documents["maker"]["fingerprint"] == queries["maker"]["fingerprint"] == documents["maker"]["vectors"]
    assert queries["maker"]["vectors"] != documents["maker"]["vectors"]


def test_a_student_learns_from_imported_vectors(run: Path, source_root: Path, store_folder: Path, run_folder: Path, tmp_path: Path) -> None:
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    cosines = [line["dev/cosine"] for line in log if "dev/cosine" in line]
    assert cosines[-1] > max(cosines[0], 0.9)  # it begins with a projection that is fitted already
    assert distill("evaluate", run) == 0
    results = json.loads((run / "results.json").read_text())
    assert "params" in results["systems"]["student"] and "params" not in results["systems"]["teacher"]
    assert results["provenance"]["teacher"]["name"] == NAME
    # the teacher does as well as it does in a store that it wrote itself, in the order of the texts
    encoded = ["--source", "MsMarcoTsv", "--source.root", source_root, "--store", store_folder]
    assert distill("evaluate", run_folder, *encoded, "--out", tmp_path / "encoded.json") == 0
    own = json.loads((tmp_path / "encoded.json").read_text())["systems"]["teacher"]
    assert results["systems"]["teacher"] == {name: pytest.approx(own[name], abs=1e-9) for name in ("mrr@10", "ndcg@10", "recall@100")}


def test_search_shows_the_text_that_bears_the_id(run: Path, source_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill("search", run, "what is the old river", "--k", 3) == 0
    texts = dict(line.split("\t") for line in (source_root / "collection.tsv").read_text().splitlines())
    lines = capsys.readouterr().out.splitlines()
    found = [(line.split()[2], lines[number + 1].strip()) for number, line in enumerate(lines) if line.startswith("  ") and ". 0" in line]
    assert len(found) == 3
    assert all(texts[id_] == text for id_, text in found)


def test_export_without_a_teacher_is_the_student_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert distill("export", run, "--out", tmp_path / "export") == 0 == distill("export", run, "--out", tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == ["README.md", "export.json", "latency.json", "student"]
    assert NAME in capsys.readouterr().out
    card = (tmp_path / "export" / "README.md").read_text()
    assert NAME in card and "router" not in card


def test_queries_alone_will_do(narrow: Path, source_root: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No document's text is on the machine."""
    texts = Path(shutil.copytree(source_root, tmp_path / "texts"))
    (texts / "collection.tsv").unlink()
    assert distill(*train_arguments(narrow, texts, store, tmp_path / "run", epochs=1)) == 0
    assert distill("evaluate", tmp_path / "run") == 0
    capsys.readouterr()
    assert distill("search", tmp_path / "run", "red river", "--k", 2) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[2][0] for line in shown if line.startswith("  ")] == ["d", "d"]
    assert distill("export", tmp_path / "run", "--index", "flat") == 0
    assert (tmp_path / "run" / "export" / "index" / "documents.faiss").exists()


def test_what_needs_the_model_says_that_it_is_not_known(
    source_root: Path, store: Path, teacher_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    printed = refused(capsys, "encode", "--teacher", teacher_folder, *source, "--out", store)
    assert f"no model of {NAME} is known: distill import its queries too" in printed
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before
    cut = ["--model.student", "StudentFromTeacher", "--model.student.layers", "[0]", "--model.losses", QUERY_MATCHING]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", source_root, "--data.store", store]
    printed = refused(capsys, "train", *cut, *data, "--trainer.max_epochs", 1, "--out", tmp_path / "run")
    assert NAME in printed and "StudentFromBackbone" in printed


def test_another_query_set_is_asked_of_import(store: Path, narrow: Path, source_root: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "more.tsv").write_text("1\tthe old river\n")
    arguments = train_arguments(narrow, source_root, store, tmp_path / "run")
    assert "run distill import for them" in refused(capsys, *arguments, "--data.queries", f"[{tmp_path / 'more.tsv'}]")


def test_ids_that_the_texts_lack_are_refused(store: Path, narrow: Path, source_root: Path, tmp_path: Path, capsys) -> None:
    texts = Path(shutil.copytree(source_root, tmp_path / "texts"))
    lines = (texts / "collection.tsv").read_text().splitlines(keepends=True)
    for path in texts.glob("qrels.*"):
        path.unlink()
    (texts / "collection.tsv").write_text("".join(lines[1:]))
    assert "1 of its ids, 'd0' for one, are no document of" in refused(capsys, *train_arguments(narrow, texts, store, tmp_path / "run"))
    (texts / "collection.tsv").write_text("".join([*lines, "new\twords\n"]))
    assert "no vector of 1 of the 61 documents" in refused(capsys, *train_arguments(narrow, texts, store, tmp_path / "run"))


def test_a_query_without_a_vector_is_refused(store: Path, narrow: Path, source_root: Path, tmp_path: Path, capsys) -> None:
    texts = Path(shutil.copytree(source_root, tmp_path / "texts"))
    with open(texts / "queries.train.tsv", "a") as file:
        file.write("new1\tan engine of its own kind\n")
    assert "no vector of 1 of 97 queries, 'new1' for one" in refused(capsys, *train_arguments(narrow, texts, store, tmp_path / "run"))


@pytest.mark.parametrize("fault", ["split", "empty query", "query", "unknown document", "document"])
def test_what_the_texts_lack_is_refused_at_once_where_they_are_named(
    fault: str, files: dict[str, list[Any]], store: Path, source_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, out = Path(shutil.copytree(source_root, tmp_path / "texts")), Path(shutil.copytree(store, tmp_path / "store"))
    shutil.rmtree(out / "queries-dev")
    options = ["--out", out, "--source", "MsMarcoTsv", "--source.root", texts]
    name, more = ("documents", ["--out", tmp_path / "new", "--name", NAME]) if "document" in fault else ("dev", ["--queries", "dev"])
    changes = {
        "split": ("queries.test.tsv", "", ["--queries", "devv"], "no split 'devv': there are dev, test, train"),
        "empty query": ("queries.dev.tsv", "dev9999\t \n", more, "the text of 'dev9999' is empty"),
        "query": ("queries.dev.tsv", "new\tan engine\n", more, "no vector of 1 of 13 queries, 'new' for one"),
        "unknown document": ("collection.tsv", None, more, "1 of its ids, 'd0' for one, are no document of"),
        "document": ("collection.tsv", "new\twords\n", more, "no vector of 1 of the 61 documents"),
    }
    file, line, more, words = changes[fault]
    content = (texts / file).read_text()
    (texts / file).write_text(content.partition("\n")[2] if line is None else content + line)
    before = sorted(tmp_path.rglob("*"))
    assert words in refused(capsys, "import", *files[name], *options, *more)
    assert sorted(tmp_path.rglob("*")) == before
    (texts / file).write_text(content)
    assert distill("import", *files[name], *options, *(["--queries", "dev"] if fault == "split" else more)) == 0


@pytest.mark.parametrize("fault", ["counts", "nan", "duplicate", "width", "name", "order", "unnamed", "set"])
def test_nothing_is_written_of_what_is_refused(fault: str, files: dict[str, list[Any]], store: Path, tmp_path: Path, capsys) -> None:
    vectors, ids = (Path(shutil.copy(files["documents"][place], tmp_path)) for place in (1, 3))
    out, options, array = tmp_path / "store", ["--name", NAME], np.load(vectors)
    if fault == "counts":
        np.save(vectors, array[:-1])
    if fault == "nan":
        array[59, 3] = np.nan
        np.save(vectors, array)
    if fault == "duplicate":
        ids.write_text(ids.read_text().replace("d7\n", "d8\n"))
    if fault in ("width", "name"):
        shutil.copytree(store, out)
        options = ["--queries", "more", "--name", NAME if fault == "width" else "another/model"]
    if fault == "width":
        np.save(vectors, array[:, :-1])
    if fault in ("order", "set"):
        options = ["--queries", "train" if fault == "order" else "../train"]
    if fault == "unnamed":
        options = []
    words = {
        "counts": "59 vectors, but 60 ids",
        "nan": "row 59, id",
        "duplicate": "ids must be unique",
        "width": "31 wide, the documents of",
        "name": f"are by {NAME}, not another/model",
        "order": "no documents in it yet",
        "unnamed": "say what made the vectors",
        "set": "'../train': a set of queries is named",
    }
    before = sorted(tmp_path.rglob("*"))
    assert words[fault] in refused(capsys, "import", "--vectors", vectors, "--ids", ids, "--out", out, *options)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_killed_import_goes_on(files: dict[str, list[Any]], store: Path, tmp_path: Path) -> None:
    arguments = ["import", *map(str, files["documents"]), "--name", NAME, "--out", str(tmp_path / "store")]
    program = str(Path(__file__).parents[1] / "interruptions.py")
    assert run_python([program, "4", "7", *arguments]).returncode == -9
    folder = tmp_path / "store" / "documents"
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("0*.npy")}
    assert len(done) == 2  # the plan, two shards, and death at the third
    assert run_python([program, "99", "7", *arguments]).returncode == 0  # more files than it writes
    assert {name: (folder / name).stat().st_mtime_ns for name in done} == done
    found = VectorStore(folder)
    found.verify()
    np.testing.assert_array_equal(found[:], VectorStore(store / "documents")[:])


def test_a_second_time_is_done_before_and_other_vectors_are_refused(
    files: dict[str, list[Any]], store: Path, tmp_path: Path, capsys
) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "store"))
    import_all(files, copy)
    assert capsys.readouterr().out.count("done before") == 4
    for place, (name, options) in enumerate([("documents", ["--name", NAME]), ("train", ["--queries", "train"])]):
        changed = np.load(files[name][1])
        changed[0, 0] += 0.5
        np.save(tmp_path / f"{place}.npy", changed)
        again = ["import", "--vectors", tmp_path / f"{place}.npy", "--ids", files[name][3], *options, "--out", copy]
        assert "made from other inputs" in refused(capsys, *again)
