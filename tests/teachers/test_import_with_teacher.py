"""Vectors that exist and the model that made them: it embeds a sample again, and what it would not have written is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill, weights
from conftest import make_source, make_teacher
from embeddings_server import serving, vector
from families import make_cross

from distill import BadInput, encode, import_vectors, load_encoder
from distill.encoders.encoder import Encoder
from distill.encoders.pooling import Pooling
from distill.encoders.tokenizing import TextSettings
from distill.teachers.agreement import COMMON_LENGTHS
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import TeacherStore, VectorStore


class Files:
    """The vectors of the small world as another program wrote them, and the options that import them with their teacher."""

    def __init__(self, folder: Path, source: Path, teacher: Path):
        self.folder, self.source, self.teacher = folder, source, teacher

    def write(self, vectors: np.ndarray, ids: list[str], name: str = "documents") -> list[Any]:
        np.save(self.folder / f"{name}.npy", vectors)
        (self.folder / f"{name}.txt").write_text("".join(f"{id_}\n" for id_ in ids))
        return ["--vectors", self.folder / f"{name}.npy", "--ids", self.folder / f"{name}.txt"]

    @property
    def texts(self) -> list[Any]:
        return ["--source", "MsMarcoTsv", "--source.root", self.source]

    def imported(self, out: Path, given: list[Any], *more: Any) -> int:
        return distill("import", *given, *self.texts, "--teacher", self.teacher, "--out", out, *more)


@pytest.fixture
def files(tmp_path: Path, source_root: Path, teacher_folder: Path) -> Files:
    return Files(tmp_path, source_root, teacher_folder)


@pytest.fixture(scope="module")
def documents(store_folder: Path) -> tuple[np.ndarray, list[str]]:
    """The teacher's vectors in another order than that of their texts, and their ids."""
    store, order = VectorStore(store_folder / "documents"), np.random.default_rng(0).permutation(60)
    return store[:][order].astype(np.float32), [store.ids[row] for row in order]


@pytest.fixture(scope="module")
def train_queries(store_folder: Path) -> tuple[np.ndarray, list[str]]:
    store = VectorStore(store_folder / "queries-train")
    return store[:].astype(np.float32), list(store.ids)


def refused(capsys: pytest.CaptureFixture[str], code: int) -> str:
    printed = capsys.readouterr().err
    assert code == 2 and printed.count("\n") == 1
    return printed


def test_an_import_with_its_teacher_is_a_store_of_that_model(files, documents, train_queries, store_folder, tmp_path, capsys):
    out = tmp_path / "store"
    assert files.imported(out, files.write(*documents)) == 0
    assert "100% of 60 sampled documents have the vector that the teacher writes" in capsys.readouterr().out
    maker, encoded = TeacherStore(out).maker, TeacherStore(store_folder).maker
    assert (maker.name, maker.fingerprint, maker.is_loadable) == (encoded.name, encoded.fingerprint, True)
    assert maker.vectors is not None and json.loads((out / "documents" / "manifest.json").read_text())["texts"] is None
    # queries that exist are compared too; encode adds the others, and leaves what was imported as it is
    assert files.imported(out, files.write(*train_queries, "train"), "--queries", "train") == 0
    assert "100% of 96 sampled queries" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert distill("encode", "--teacher", files.teacher, *files.texts, "--out", out, "--precision", "fp32") == 0
    assert capsys.readouterr().out.count("imported before") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(TeacherStore(out).query_sets()) == {"train", "dev", "test"}
    np.testing.assert_array_equal(VectorStore(out / "queries-dev")[:], VectorStore(store_folder / "queries-dev")[:])
    # and a student is cut from the model
    cut = ["--model.student", "StudentFromTeacher", "--model.student.layers", "[0,3]", "--model.losses", "QueryMatching"]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", files.source, "--data.store", out]
    trainer = ["--trainer.max_epochs", 1, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
    assert distill("train", *cut, *data, *trainer, "--out", tmp_path / "run") == 0
    assert weights(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert not (tmp_path / "run" / "health.jsonl").exists()


def test_what_the_teacher_would_not_write_is_refused_and_named(files, documents, tmp_path, teacher_folder, capsys, monkeypatch):
    monkeypatch.setattr("distill.teachers.agreement.COMMON_LENGTHS", (6, *COMMON_LENGTHS))
    vectors, ids = documents
    texts = dict(line.split("\t") for line in (files.source / "collection.tsv").read_text().splitlines())
    of_ids = [texts[id_] for id_ in ids]
    encoder = load_encoder(str(teacher_folder))
    backbone, _, *head = encoder.module_list

    def embed(pooling: str = "mean", length: int = 32, prompt: str = "", document: str = "") -> np.ndarray:
        settings = TextSettings(length, {"query": prompt, "document": document})
        return Encoder([backbone, Pooling(pooling), *head], encoder.tokenizer, settings).eval().encode_document(of_ids)

    lengths = np.random.default_rng(1).uniform(0.5, 2, (60, 1)).astype(np.float32)
    other = load_encoder(str(make_teacher(tmp_path / "other", seed=5))).encode_document(of_ids)
    faults = {
        "order": (vectors[::-1], "60 belong to other texts"),
        "model": (other, "60 differ from what the teacher writes now (mean cosine"),
        "pooling": (embed("cls"), "they are what it writes with pooling cls, not mean"),
        "length": (embed(length=6), "they are what it writes of the first 6 tokens, not 32"),
        "prompt": (embed(document="letter market winter "), "or its prompt, pooling or normalisation is another"),
        "normalisation": (vectors * lengths, "it ranks by cosine, with vectors of length 1, these are 0."),
        "width": (vectors[:, :16], "its vectors are 16 wide, "),
    }
    before = sorted(path for path in tmp_path.rglob("*") if path.suffix not in (".npy", ".txt"))
    for name, (given, words) in faults.items():
        printed = refused(capsys, files.imported(tmp_path / "store", files.write(given, ids)))
        assert words in printed and "documents.npy" in printed, name
    # the other way round: the vectors are bare, the teacher is given a prompt, and one for each role
    prompts = {"document": "letter market winter ", "query": ""}
    printed = refused(capsys, files.imported(tmp_path / "store", files.write(vectors, ids), "--prompts", json.dumps(prompts)))
    assert "they are what it writes without its prompt 'letter market winter '" in printed
    prompts = {"document": "letter market winter ", "query": "find "}
    given = files.write(embed(document="find "), ids)
    printed = refused(capsys, files.imported(tmp_path / "store", given, "--prompts", json.dumps(prompts)))
    assert "they are what it writes of them as a query, not a document" in printed
    assert sorted(path for path in tmp_path.rglob("*") if path.suffix not in (".npy", ".txt")) == before
    assert files.imported(tmp_path / "store", given, "--prompts", json.dumps(prompts | {"document": "find "})) == 0


@pytest.mark.parametrize("form", ["float16", "float64", "int8", "int8 codes", "some cut"])
def test_vectors_in_fewer_bits_agree(form, files, documents, tmp_path, capsys):
    vectors, ids = documents
    largest = np.abs(vectors).max()  # of an index of 8 bits, with one scale for all
    codes = np.round(vectors / largest * 127).astype(np.int8)
    forms = {
        "float16": vectors.astype(np.float16),
        "float64": vectors.astype(np.float64),
        "int8": codes.astype(np.float32) * largest / 127,
        "int8 codes": codes.astype(np.float32),
        "some cut": np.concatenate([vectors[:5, ::-1], vectors[5:]]),
    }
    assert files.imported(tmp_path / "store", files.write(forms[form], ids)) == 0
    said = capsys.readouterr().out
    assert ("times as long as those that" in said) == (form == "int8 codes")
    assert "but not the same" not in said
    assert f"{92 if form == 'some cut' else 100}% of 60 sampled documents" in said


def test_vectors_that_are_only_near_are_named_or_warned_of(files, documents, tmp_path, capsys, monkeypatch):
    vectors, ids = documents
    noise = np.random.default_rng(2).standard_normal(vectors.shape).astype(np.float32)
    noise -= (noise * vectors).sum(1, keepdims=True) * vectors  # at right angles
    near = vectors + 0.13 * noise / np.linalg.norm(noise, axis=1, keepdims=True)  # cosine 0.9917
    given = files.write(near / np.linalg.norm(near, axis=1, keepdims=True), ids)
    assert files.imported(tmp_path / "near", given) == 0
    said = capsys.readouterr().out
    assert "writes, but not the same (mean cosine 0.991" in said and "they have fewer than 8 bits" in said
    # a prompt changes the vector of a long text as little; here the texts are short, so that a wider bound stands for their length
    monkeypatch.setattr("distill.teachers.agreement.SAME_TEXT", 0.8)
    prompts = ["--prompts", '{"document": "letter market winter "}']
    printed = refused(capsys, files.imported(tmp_path / "store", files.write(vectors, ids), *prompts))
    assert "though near them (mean cosine 0.9" in printed and "they are what it writes without its prompt" in printed


def test_a_sample_is_enough(documents, teacher_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.teachers.agreement.TEXTS_COMPARED", 6)
    read: list[int] = []
    source = make_source(tmp_path / "texts")
    teacher = load_encoder(str(teacher_folder))

    def embed(texts: list[str]) -> np.ndarray:
        read.append(len(texts))
        return teacher.encode_document(texts)

    np.save(tmp_path / "documents.npy", documents[0])
    (tmp_path / "ids.txt").write_text("\n".join(documents[1]))
    given = {"vectors": str(tmp_path / "documents.npy"), "ids": str(tmp_path / "ids.txt"), "source": MsMarcoTsv(str(source))}
    import_vectors(**given, out=str(tmp_path / "store"), teacher=embed, name="mine")
    assert read == [1, 6]  # the first measures the width
    maker = TeacherStore(tmp_path / "store").maker
    assert (maker.name, maker.origin) == ("mine", "function")
    encode(embed, MsMarcoTsv(str(source)), str(tmp_path / "store"), name="mine")
    assert set(TeacherStore(tmp_path / "store").query_sets()) == {"train", "dev", "test"}
    with pytest.raises(BadInput, match="needs a name"):
        import_vectors(**given, out=str(tmp_path / "other"), teacher=embed)


def test_a_server_is_asked_for_a_sample(files, source_root, tmp_path, capsys):
    texts = dict(line.split("\t") for line in (source_root / "collection.tsv").read_text().splitlines())
    given = files.write(np.stack([vector(text) for text in texts.values()]), list(texts))
    with serving() as server:
        files.teacher = server.address
        assert "needs --model" in refused(capsys, files.imported(tmp_path / "store", given))
        assert files.imported(tmp_path / "store", given, "--model", "letters") == 0
        assert TeacherStore(tmp_path / "store").maker.origin == "server"
        assert distill("encode", "--teacher", server.address, "--model", "letters", *files.texts, "--out", tmp_path / "store") == 0
        given = files.write(np.stack([vector(text + "s") for text in texts.values()]), list(texts))
        assert "60 differ from what the teacher writes now" in refused(capsys, files.imported(tmp_path / "no", given, "--model", "letters"))


def test_what_cannot_be_compared_is_refused(files, documents, train_queries, store_folder, tmp_path, capsys):
    given, out = files.write(*documents), tmp_path / "store"
    teacher = ["--teacher", files.teacher]
    printed = refused(capsys, distill("import", *given, *teacher, "--out", out))
    assert "teacher: needs the texts of the vectors, to embed some of them again: name their --source" in printed
    assert "name: for a function as the teacher, this one is a dual encoder" in refused(
        capsys, files.imported(out, given, "--name", "mine")
    )
    printed = refused(capsys, distill("import", *given, "--name", "mine", "--normalize", "true", "--model", "ada", "--out", out))
    assert "model, normalize: only with --teacher" in printed
    bare = Path(shutil.copytree(files.source, tmp_path / "bare"))
    (bare / "collection.tsv").unlink()
    printed = refused(capsys, distill("import", *given, *teacher, "--source", "MsMarcoTsv", "--source.root", bare, "--out", out))
    assert "has no texts of documents to embed again" in printed
    make_cross("bert").save_pretrained(tmp_path / "cross")
    cross = ["--teacher", tmp_path / "cross"]
    assert "scores pairs" in refused(capsys, distill("import", *given, *cross, *files.texts, "--out", out))
    more = Path(shutil.copytree(files.source, tmp_path / "more"))
    with open(more / "collection.tsv", "a") as file:
        file.write("new\twords\n")
    printed = refused(capsys, distill("import", *given, *teacher, "--source", "MsMarcoTsv", "--source.root", more, "--out", out))
    assert "no vector of 1 of the 61 documents" in printed
    assert not out.exists()


def test_one_store_has_one_teacher(files, documents, train_queries, tmp_path, capsys):
    given, queries = files.write(*documents), files.write(*train_queries, "train")
    assert files.imported(tmp_path / "store", given) == 0
    prompts = ["--prompts", '{"query": "find the "}']
    printed = refused(capsys, files.imported(tmp_path / "store", queries, "--queries", "train", *prompts))
    assert f"teacher: the documents of {tmp_path / 'store'} are by {files.teacher} of fingerprint" in printed
    printed = refused(capsys, distill("encode", "--teacher", files.teacher, *files.texts, "--out", tmp_path / "store", *prompts))
    assert "documents: imported as vectors by" in printed and "name that teacher with its prompts" in printed
    assert distill("import", *given, "--name", "mine", "--out", tmp_path / "named") == 0
    printed = refused(capsys, files.imported(tmp_path / "named", queries, "--queries", "train"))
    assert "were imported without it: import them with --teacher too, or leave it out" in printed
    # queries of the wrong order are refused as documents are
    wrong = files.write(train_queries[0][::-1], train_queries[1], "wrong")
    assert "belong to other texts" in refused(capsys, files.imported(tmp_path / "store", wrong, "--queries", "train"))


def test_texts_that_are_elsewhere_are_not_missed_by_encode(files, documents, tmp_path):
    assert files.imported(tmp_path / "store", files.write(*documents)) == 0
    bare = Path(shutil.copytree(files.source, tmp_path / "bare"))
    (bare / "collection.tsv").unlink()
    source = ["--source", "MsMarcoTsv", "--source.root", bare]
    assert distill("encode", "--teacher", files.teacher, *source, "--splits", "[dev]", "--out", tmp_path / "store") == 0
    assert list(TeacherStore(tmp_path / "store").query_sets()) == ["dev"]


def test_a_part_of_the_rows_out_of_order_is_refused(files, documents, tmp_path, capsys):
    """Also where it is so small that the rest agrees; a vector that is of no text here is warned of."""
    vectors, ids = documents
    swapped = vectors.copy()
    swapped[:4] = np.roll(vectors[:4], 1, axis=0)
    assert "4 of 60 sampled vectors belong to other texts" in refused(capsys, files.imported(tmp_path / "no", files.write(swapped, ids)))
    assert not (tmp_path / "no").exists()
    noisy = vectors.copy()
    noise = np.random.default_rng(0).standard_normal(vectors.shape[1])
    noisy[0] = noise / np.linalg.norm(noise)
    assert files.imported(tmp_path / "store", files.write(noisy, ids)) == 0
    assert "warning" in (said := capsys.readouterr().out) and "98% of 60 sampled documents" in said and "texts that have changed" in said


def test_queries_that_nobody_compared_are_not_taken_for_the_teachers(files, documents, train_queries, store_folder, tmp_path, capsys):
    """`import` without a teacher into a store that a model made: `encode` does not believe it."""
    out = tmp_path / "store"
    shutil.copytree(store_folder, out)
    shutil.rmtree(out / "queries-train")
    given = files.write(train_queries[0][::-1].copy(), train_queries[1], "train")
    assert distill("import", *given, "--queries", "train", "--out", out) == 0
    capsys.readouterr()
    printed = refused(capsys, distill("encode", "--teacher", files.teacher, *files.texts, "--splits", "[train]", "--out", out))
    assert "imported as vectors that nobody compared with" in printed
