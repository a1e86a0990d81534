"""A Python function as the teacher: ten lines of a user's own become a store, and a student learns from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import QUERY_MATCHING, distill, furthest, in_process
from conftest import make_teacher

from distill.data.datamodule import RetrievalData
from distill.encoders.students import StudentFromTeacher
from distill.files.progress import log
from distill.losses import QueryMatching, ScoreDistillation
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.run import train
from distill.teachers.encode import encode
from distill.teachers.function import FunctionTeacher, PairFunctionTeacher, text_functions
from distill.texts.sources import MsMarcoTsv
from distill.vectors import store_writer
from distill.vectors.store import TeacherStore, VectorStore

WIDTH = 24
EVERY = ["--checkpoint_every_n_steps", 2]


def hashed_words(texts: list[str]) -> np.ndarray:
    """The teacher of ten lines: each word has a random direction, a text the sum of them."""
    vectors = np.zeros((len(texts), WIDTH))
    for row, text in enumerate(texts):
        for word in text.lower().split():
            seed = int.from_bytes(word.encode()[:7], "little")
            vectors[row] += np.random.default_rng(seed).standard_normal(WIDTH)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-9)


class TwoTowers:
    """Queries and documents by different functions, as tensors."""

    def encode_query(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[1.0, len(text)] for text in texts], requires_grad=True)

    def encode_document(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[2.0, len(text)] for text in texts], dtype=torch.bfloat16)


class Static:
    def encode(self, texts: list[str]) -> list[list[float]]:
        return [[3.0, len(text)] for text in texts]


@pytest.fixture(scope="module")
def store(tmp_path_factory, source_root) -> TeacherStore:
    found = encode(hashed_words, MsMarcoTsv(str(source_root)), str(tmp_path_factory.mktemp("function") / "store"), name="mine")
    assert isinstance(found, TeacherStore)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory, source_root, store) -> Path:
    """Two epochs of a student of the small model."""
    folder = tmp_path_factory.mktemp("runs")
    assert distill(*train_arguments(folder, source_root, store.folder, folder / "run")) == 0
    return folder / "run"


def train_arguments(folder: Path, source: Path, store: Path, out: Path) -> list[object]:
    backbone = folder / "backbone"
    if not backbone.exists():
        make_teacher(backbone, width=16, layers=1)
    student = ["--model.student", "StudentFromBackbone", "--model.student.name", backbone, "--model.student.projection", "linear"]
    data = ["--data.source", "MsMarcoTsv", "--data.source.root", source, "--data.store", store, "--data.batch_size", 16]
    trainer = ["--trainer.max_epochs", 2, "--trainer.precision", "32-true", "--trainer.accelerator", "cpu"]
    return ["train", *student, "--model.losses", QUERY_MATCHING, "--model.learning_rate", 0.005, *data, *trainer, "--out", out, *EVERY]


def test_the_store_holds_what_the_function_returned(store, source_root):
    texts = MsMarcoTsv(str(source_root)).documents()
    np.testing.assert_array_equal(store.documents[:], hashed_words(list(texts)).astype(np.float16))
    assert sorted(store.query_sets()) == ["dev", "test", "train"]
    assert (store.maker.name, store.maker.origin, store.documents.width) == ("mine", "function", WIDTH)


def test_a_student_learns_resumes_and_exports(run, source_root, store, tmp_path):
    """Killed in its second epoch and started again it becomes what it became in one go."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    cosines = [line["dev/cosine"] for line in lines if "dev/cosine" in line]
    assert cosines[-1] > cosines[0]
    dies = json.dumps([{"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_end", "step": 8}}])
    again = train_arguments(run.parent, source_root, store.folder, tmp_path / "run")
    in_process(*again, "--trainer.callbacks", dies)
    assert not (tmp_path / "run" / "student").exists()
    assert distill(*again) == 0
    assert furthest(run / "checkpoints" / "last.ckpt", tmp_path / "run" / "checkpoints" / "last.ckpt") == 0
    assert distill("evaluate", run) == 0
    results = json.loads((run / "results.json").read_text())
    assert results["provenance"]["teacher"]["origin"] == "function"
    assert "params" in results["systems"]["student"] and "params" not in results["systems"]["teacher"]
    assert distill("export", run, "--out", tmp_path / "export") == 0
    assert (tmp_path / "export" / "student" / "modules.json").exists()
    assert not (tmp_path / "export" / "router").exists()  # its other half is a function


def test_encoding_again_goes_on(source_root, tmp_path, monkeypatch):
    """What is written is not computed again."""
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 16)
    source, calls = MsMarcoTsv(str(source_root)), []

    def counted(texts: list[str]) -> np.ndarray:
        calls.extend(texts)
        return hashed_words(texts)

    encode(counted, source, str(tmp_path / "store"), name="mine")
    whole = VectorStore(tmp_path / "store" / "documents")[:]
    for name in ("manifest.json", "00001.npy"):
        (tmp_path / "store" / "documents" / name).unlink()
    calls.clear()
    again = encode(counted, source, str(tmp_path / "store"), name="mine")
    documents, compared = list(source.documents()), [text for split in ("dev", "test", "train") for text in list(source.queries(split))[:4]]
    assert calls == [*documents[:4], *documents[16:32], *compared]
    np.testing.assert_array_equal(again.documents[:], whole)


def test_a_function_that_changed_does_not_go_on_with_a_store(store, source_root):
    source = MsMarcoTsv(str(source_root))
    for change in (lambda vectors: vectors[:, ::-1], lambda vectors: 2 * vectors):
        with pytest.raises(BadInput, match=r"documents: the function mine returns other numbers now"):
            encode(lambda texts, change=change: change(hashed_words(texts)), source, str(store.folder), name="mine")
    encode(lambda texts: hashed_words(texts).astype(np.float16), source, str(store.folder), name="mine")  # rounding is no change


def test_an_object_of_a_model_that_compares_by_cosine_is_scaled():
    """A SentenceTransformer of before encode_query; one with prompts would leave them out."""
    model = Static()
    model.similarity_fn_name = "cosine"  # type: ignore[attr-defined]
    [vector] = FunctionTeacher(text_functions(model), "old").embed(["abcd"], "query", print)
    np.testing.assert_allclose(vector, [0.6, 0.8], rtol=1e-6)
    model.prompts = {"query": "query: ", "document": ""}  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="has prompts, and no encode_query"):
        text_functions(model)


@pytest.mark.parametrize("changes", [{"name": "another"}, {"prompts": {"query": "ask: "}}])
def test_another_name_or_prompt_is_another_teacher(changes, store, source_root):
    with pytest.raises(BadInput, match="made from other inputs"):
        encode(hashed_words, MsMarcoTsv(str(source_root)), str(store.folder), **{"name": "mine", **changes})


def test_objects_with_functions():
    towers, static = FunctionTeacher(text_functions(TwoTowers()), "towers"), FunctionTeacher(text_functions(Static()), "static")
    assert towers.embed(["a", "bcd"], "query", print).tolist() == [[1, 1], [1, 3]]
    assert towers.embed(["a"], "document", print).tolist() == [[2, 1]]
    assert static.embed(["a"], "document", print).tolist() == static.embed(["a"], "query", print).tolist() == [[3, 1]]
    assert towers.embed([], "query", print).shape == (0, 2)


def test_prompts_stand_before_texts():
    teacher = FunctionTeacher(text_functions(Static()), "static", {"query": "ask: "})
    assert teacher.prepare(["a", ""], "query") == ["ask: a", "ask: "]
    assert teacher.prepare(["a"], "document") == ["a"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda texts: np.ones(len(texts)), r"returned \[2\] numbers for 2 texts: it has to return \[2, 4\]"),
        (lambda texts: np.ones((1, 4)), r"returned \[1, 4\] numbers for 2 texts"),
        (lambda texts: np.ones((2, 5)), r"returned \[2, 5\] numbers for 2 texts"),
        (lambda texts: [[1, 2], [3]], "no table of numbers"),
    ],
)
def test_what_is_no_vector_a_text_is_refused(function, words):
    with pytest.raises(BadInput, match=words):
        FunctionTeacher(text_functions(function), "mine", width=4).embed(["a", "b"], "query", print)


@pytest.mark.parametrize(
    ("teacher", "options", "words"),
    [
        (hashed_words, {}, "needs a name"),
        (hashed_words, {"name": "mine", "precision": "bf16"}, "precision: for a dual encoder or a cross encoder as the teacher"),
        (hashed_words, {"name": "mine", "model": "m"}, "only for a server"),
        (hashed_words, {"name": "mine", "candidates": "run.trec", "prompts": {"query": "a "}}, "takes neither prompts nor queries"),
        (hashed_words, {"name": "mine", "candidates": "run.trec"}, "reads pairs: give --splits and --candidates"),
        (3, {"name": "mine"}, "3: no model of texts"),
        ("http://127.0.0.1:9/v1", {"model": "m", "name": "mine"}, "name: for a function as the teacher, this one is a server"),
    ],
)
def test_options_that_do_not_go_together(teacher, options, words, source_root, tmp_path):
    with pytest.raises(BadInput, match=words):
        encode(teacher, MsMarcoTsv(str(source_root)), str(tmp_path / "store"), **options)
    assert not (tmp_path / "store").exists()


def test_the_function_of_another_rank_is_not_waited_for(source_root, tmp_path, monkeypatch):
    """Whoever ends last has the store."""
    monkeypatch.setattr(store_writer, "ROWS_PER_SHARD", 16)
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        found.append(encode(hashed_words, MsMarcoTsv(str(source_root)), str(tmp_path / "store"), name="mine"))
    assert found[0] is None and len(found[1].documents) == 60


# a function from pairs to scores


def common_words(pairs):
    return [float(len(set(query.split()) & set(document.split()))) for query, document in pairs]


def test_a_function_of_pairs_scores_candidates_and_teaches(source_root, store_folder, tmp_path):
    source = MsMarcoTsv(str(source_root))
    stores = encode(common_words, source, str(tmp_path / "pairs"), ["train"], candidates=str(store_folder), name="common")
    assert stores["train"].maker.origin == "function" and stores["train"].width == 1
    queries, documents = source.queries("train"), source.documents()
    texts = {kind: dict(zip(part.ids, part, strict=True)) for kind, part in (("q", queries), ("d", documents))}
    pairs = [id_.split("\t") for id_ in stores["train"].ids]
    assert stores["train"].take(np.arange(len(pairs)))[:, 0].tolist() == common_words([(texts["q"][q], texts["d"][d]) for q, d in pairs])
    assert sorted(pair[0] for pair in pairs) == sorted(4 * list(queries.ids))
    data = RetrievalData(source, str(store_folder), candidates=4, teachers={"common": str(tmp_path / "pairs")}, batch_size=16)
    losses = {"matching": QueryMatching(), "scores": ScoreDistillation(teacher="common")}
    run = train(StudentModule(StudentFromTeacher(2), losses), data, tmp_path / "run", max_epochs=8, log_every_n_steps=1)
    values = run.history["train/scores"].values
    assert np.mean(values[-5:]) < 0.9 * np.mean(values[:5])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda pairs: [1.0], r"returned \[1\] numbers for \d+ pairs: it has to return"),
        (lambda pairs: [[1.0, 2.0]] * len(pairs), "a score for each"),
        (lambda pairs: [float("nan")] * len(pairs), "numbers below 65504"),
        (lambda pairs: [1e6] * len(pairs), "numbers below 65504"),
    ],
)
def test_what_is_no_score_a_pair_is_refused(function, words, source_root, store_folder, tmp_path):
    with pytest.raises(BadInput, match=words):
        encode(function, MsMarcoTsv(str(source_root)), str(tmp_path / "pairs"), ["train"], candidates=str(store_folder), name="mine")


def test_scores_that_a_store_cannot_tell_apart_are_warned_of(caplog, monkeypatch):
    monkeypatch.setattr(log, "propagate", True)
    teacher = PairFunctionTeacher(lambda pairs: [float(len(document)) + 20_000 for _, document in pairs], "large")
    teacher.embed([("a", "one"), ("b", "two four")], "query", print)
    assert not caplog.text
    teacher.embed([("a", "one"), ("a", "four")], "query", print)
    assert "large: scores of one query that differ by less than float16 tells are stored as equal" in caplog.text


def test_a_set_of_queries_that_would_be_written_twice_is_refused(source_root, tmp_path):
    source = MsMarcoTsv(str(source_root))
    with pytest.raises(BadInput, match="query sets: queries-dev would be written twice: rename the file, or name each split once"):
        encode(hashed_words, source, str(tmp_path / "store"), splits=["dev", "dev"], name="mine")
    assert not (tmp_path / "store").exists()


def test_a_vector_of_zeros_is_named(source_root, tmp_path, caplog):
    encode(lambda texts: 0 * hashed_words(texts), MsMarcoTsv(str(source_root)), str(tmp_path / "store"), splits=["dev"], name="mine")
    assert caplog.text.count("store/documents: the vector of") == 1 and "is 0: every score with it is 0" in caplog.text


def test_a_path_is_a_folder_and_an_address_needs_its_scheme(teacher_folder, source_root, tmp_path):
    store = encode(Path(teacher_folder), MsMarcoTsv(str(source_root)), str(tmp_path / "store"), splits=["dev"])
    assert store.maker.origin == "model"
    with pytest.raises(BadInput, match=r"localhost:8765/v1: looks like the address of a server: write http:// or https:// before it"):
        encode("localhost:8765/v1", MsMarcoTsv(str(source_root)), str(tmp_path / "other"), model="m")
