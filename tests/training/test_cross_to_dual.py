"""A cross encoder teaches a dual encoder: what is stored of it, what a batch holds of it, which losses may learn from it."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands import distill, train_arguments
from conftest import make_source, make_teacher
from forks import run_python

from distill.data.datamodule import RetrievalData
from distill.encoders.cross_folder import load_cross_encoder, new_cross_encoder
from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromTeacher
from distill.losses import OneHot, ScoreDistillation
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.teachers.candidates import TAB
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import VectorStore

TESTS = Path(__file__).parents[1]
SHORT = {"train3": 3, "train40": 1}  # queries with so few candidates
HEADS = {"ce": "dual_pooling", "cls": "cls"}


@dataclass(frozen=True)
class World:
    """The small world, two untrained cross encoders and a narrower dual encoder with their stores, and the candidates they read."""

    root: Path
    source: Path
    store: Path

    def encode(self, teacher: str, *more: Any, out: str | Path | None = None) -> list[Any]:
        out = self.root / (out or f"{teacher}-store")
        texts = ["--source", "MsMarcoTsv", "--source.root", self.source, "--precision", "fp32", "--out", out]
        return ["encode", "--teacher", self.root / teacher, *texts, *more]

    def pairs(self, teacher: str, *more: Any, out: str | None = None, candidates: str = "mined.jsonl") -> list[Any]:
        return self.encode(teacher, "--splits", "[train]", "--candidates", self.root / candidates, *more, out=out)

    def teachers(self, *names: str) -> dict[str, str]:
        return {name: str(self.root / f"{name}-store") for name in names}

    def train(self, out: Path, losses: dict[str, Any], *names: str, more: list[Any] | None = None) -> list[Any]:
        given = json.dumps({key: {"class_path": kind, "init_args": options} for key, (kind, options) in losses.items()})
        data = ["--data.teachers", json.dumps(self.teachers(*names)), "--data.candidates", 4, "--trainer.max_epochs", 1]
        return train_arguments(self.source, self.store, out, *data, *(more or []), losses=given)

    def data(self, *names: str, **settings: Any) -> RetrievalData:
        settings = {"candidates": 4, "batch_size": 16, **settings}
        found = RetrievalData(MsMarcoTsv(str(self.source)), str(self.store), teachers=self.teachers(*names), **settings)
        found.setup("fit")
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, source_root: Path, store_folder: Path) -> World:
    root = tmp_path_factory.mktemp("cross")
    torch.manual_seed(0)
    for name, head in HEADS.items():
        new_cross_encoder(str(teacher_folder), head).save_pretrained(root / name)
    make_teacher(root / "narrow", width=16, layers=1, seed=3)
    source, random = MsMarcoTsv(str(source_root)), np.random.default_rng(0)
    with open(root / "mined.jsonl", "w") as file:
        for query, judged in source.qrels("train").judgments.items():
            positive, *_ = judged
            others = [f"d{i}" for i in random.permutation(60) if f"d{i}" not in judged]
            record = {"query": query, "positive": positive, "negatives": others[: SHORT.get(query, 5) - 1]}
            file.write(json.dumps(record) + "\n")
    made = World(root, source_root, store_folder)
    for name in HEADS:
        assert distill(*made.pairs(name, "--candidates_per_query", 5)) == 0
    assert distill(*made.encode("narrow")) == 0
    return made


def words(world: World) -> dict[str, str]:
    """Every text by its id."""
    lines = [line for name in ("collection", "queries.train") for line in (world.source / f"{name}.tsv").read_text().splitlines()]
    return dict(line.split("\t", 1) for line in lines)


def read_by_itself(world: World, teacher: str, pairs: list[tuple[str, str]]) -> torch.Tensor:
    """[P, 1 + 2 D]: what the cross encoder says of each pair of ids, one pair at a time."""
    encoder, texts = load_cross_encoder(str(world.root / teacher)), words(world)
    return torch.cat([encoder.score([texts[query]], [texts[document]]).pack() for query, document in pairs])


# the store of pairs


@pytest.mark.parametrize("teacher", HEADS)
def test_what_is_stored_of_every_pair_is_what_the_cross_encoder_says_of_it_alone(teacher, world):
    store = VectorStore(world.root / f"{teacher}-store" / "pairs-train")
    assert store.shape == (94 * 5 + 3 + 1, {"ce": 65, "cls": 1}[teacher])
    expected = read_by_itself(world, teacher, [tuple(id_.split(TAB)) for id_ in store.ids])
    torch.testing.assert_close(torch.from_numpy(store[:]).float(), expected, atol=1e-3, rtol=1e-3)  # float16 has 11 bits


def test_the_same_command_finds_it_done(world, capsys):
    assert distill(*world.pairs("ce", "--candidates_per_query", 5)) == 0
    assert capsys.readouterr().out == f"{world.root / 'ce-store' / 'pairs-train'}: done before, 474 vectors\n"


@pytest.mark.slow
def test_a_killed_encoding_goes_on(world, tmp_path, monkeypatch):
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "pairs-train").glob("[!.]*")}

    monkeypatch.setattr("distill.vectors.store_writer.ROWS_PER_SHARD", 100)
    arguments = [str(word) for word in world.pairs("ce", "--candidates_per_query", 5, out=str(tmp_path / "killed"))]
    command = [str(TESTS / "interruptions.py"), "4", "100", *arguments]  # after the plan and two shards
    assert run_python(command).returncode == -signal.SIGKILL
    assert sorted(contents(tmp_path / "killed")) == ["00000.npy", "00001.npy", "plan.json"]
    assert distill(*arguments) == 0
    assert distill(*world.pairs("ce", "--candidates_per_query", 5, out=str(tmp_path / "whole"))) == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole") and len(contents(tmp_path / "whole")) == 9


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Runs a verb that must refuse its input in one line that says all of the words."""

    def run(arguments: list[Any], *expected: str) -> None:
        capsys.readouterr()
        assert distill(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not [word for word in expected if word not in line], line

    return run


def test_a_store_of_other_pairs_is_refused(world, refused, tmp_path):
    refused(world.pairs("ce", "--candidates_per_query", 4), "pairs-train: made from other inputs (rows was 474, now 380)")
    lines = [json.loads(line) for line in (world.root / "mined.jsonl").read_text().splitlines()]
    lines[0]["negatives"].reverse()
    (tmp_path / "turned.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    turned = world.pairs("ce", "--candidates_per_query", 5, candidates=str(tmp_path / "turned.jsonl"))
    refused(turned, "made from other inputs (ids was", "choose another --out")
    refused(world.pairs("cls", "--candidates_per_query", 5, out="ce-store"), "made from other inputs (the model was")
    other = load_cross_encoder(str(world.root / "ce"))
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    other.save_pretrained(tmp_path / "other")
    refused(world.pairs(str(tmp_path / "other"), "--candidates_per_query", 5, out="ce-store"), "made from other inputs (the model was")


def test_changed_texts_are_refused(world, refused, tmp_path):
    changed = World(world.root, Path(shutil.copytree(world.source, tmp_path / "texts")), world.store)
    path = changed.source / "queries.train.tsv"
    path.write_text(path.read_text().replace("train5\t", "train5\tnew "))
    refused(changed.pairs("ce", "--candidates_per_query", 5), "made from other inputs (texts was", "choose another --out")
    # its dual encoder knows the new texts, its cross encoder does not
    assert distill("encode", "--teacher", world.root / "narrow", *changed.encode("narrow")[3:-1], tmp_path / "store") == 0
    learning = World(world.root, changed.source, tmp_path / "store")
    refused(learning.train(tmp_path / "run", {"s": ("ScoreDistillation", {"teacher": "ce"})}, "ce"), "not of the pairs of 'train'")
    assert not (tmp_path / "run").exists()


def test_what_a_cross_encoder_needs_and_does_not_take(world, refused, tmp_path):
    out = str(tmp_path / "out")
    refused(world.encode("ce", out=out), "reads pairs", "--splits and --candidates")
    refused(world.encode("ce", "--splits", "[train]", out=out), "reads pairs", "--candidates")
    refused(world.pairs("ce", "--candidates_per_query", 0, out=out), "candidates_per_query: 0: must be at least 1")
    refused(world.pairs("ce", "--queries", "[more.tsv]", out=out), "queries: a cross encoder reads those of the splits")
    refused(world.pairs("narrow", out=out), "candidates", "embeds single texts")
    refused(world.pairs("ce", out="narrow-store"), "not a store of pairs and not empty")
    refused(world.pairs("ce", out=out, candidates="nothing.trec"), "nothing.trec")
    assert not Path(out).exists()


# what a batch holds


def attached(data: RetrievalData, encoder: Any, tower: Any) -> RetrievalData:
    """With as much of a trainer as the loader asks for."""
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))))
    data.connect(encoder, tower)
    device = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(fit_loop=loop, global_rank=0, world_size=1, strategy=device)
    return data


def ids_of(data: RetrievalData, batch: Any) -> list[tuple[str, str]]:
    """The batch's pairs by id."""
    queries = [id_ for texts, _ in data.train_sets for id_ in texts.ids]
    documents = data.store.documents.ids
    pairs = zip(batch.query_rows.tolist(), batch.document_rows.tolist(), strict=True)
    return [(queries[query], documents[row]) for query, rows in pairs for row in rows]


def test_scores_vectors_and_tokens_of_a_batch_belong_to_its_own_pairs(world, teacher_folder):
    data, texts = world.data("ce", "cls", "narrow", candidates=3), words(world)
    encoder, narrow = load_encoder(str(teacher_folder)), load_encoder(str(world.root / "narrow"))
    seen = []
    for batch in list(attached(data, encoder, encoder).train_dataloader())[:3]:
        pairs, shape = ids_of(data, batch), batch.document_rows.shape
        assert shape == (16, 3)
        said = data.teachers["ce"](batch)
        expected = read_by_itself(world, "ce", pairs).unflatten(0, shape)
        close = {"atol": 1e-3, "rtol": 1e-3}
        torch.testing.assert_close(said.scores, expected[..., 0], **close)
        torch.testing.assert_close(said.query, expected[..., 1:33], **close)
        torch.testing.assert_close(said.document, expected[..., 33:], **close)
        assert torch.equal(said.document_rows, batch.document_rows)
        cls = data.teachers["cls"](batch)
        torch.testing.assert_close(cls.scores, read_by_itself(world, "cls", pairs)[:, 0].view(shape), **close)
        assert cls.query.shape == cls.document.shape == (16, 3, 0)
        own_queries, documents = [texts[query] for query, _ in pairs[::3]], [texts[document] for _, document in pairs]
        with torch.inference_mode():
            torch.testing.assert_close(encoder(batch.queries), encoder.encode(own_queries, "query"), atol=1e-5, rtol=0)
            torch.testing.assert_close(batch.documents.map(encoder), encoder.encode(documents, "document"), atol=1e-5, rtol=0)
        torch.testing.assert_close(data.teachers["narrow"](batch).query, narrow.encode(own_queries, "query"), **close)
        assert data.teachers["narrow"](batch).document.shape == (16, 3, 16)
        seen += batch.query_rows.tolist()
    assert len(set(seen)) == 48


def test_candidates_are_those_that_were_read_in_their_order(world):
    data = world.data("narrow", "ce")
    lines = {line["query"]: line for line in map(json.loads, (world.root / "mined.jsonl").read_text().splitlines())}
    (texts, _), ids = data.train_sets[0], data.store.documents.ids
    for query, rows in zip(texts.ids, data.candidate_rows, strict=True):
        assert [ids[row] for row in rows] == [lines[query]["positive"], *lines[query]["negatives"]][:4]
    assert data.labelled and data.teachers["ce"].width == 32 and data.teachers["ce"].reads_pairs


def test_each_kind_of_teacher_has_its_own_temperature(world):
    """A cross encoder's logits are not divided by what suits cosines."""
    data = world.data("ce", "cls", "narrow")
    losses = {name: ScoreDistillation(teacher=name) for name in ("ce", "cls", "narrow")} | {"store": ScoreDistillation()}
    module = StudentModule(StudentFromTeacher([0, 3]), losses)
    module.prepare(data)
    assert [loss.temperatures_in_use for loss in module.losses.values()] == [(0.05, 1.0), (0.05, 1.0), (0.05, 0.05), (0.05, 0.05)]


def test_temperatures_suit_vectors_of_any_length(world, monkeypatch):
    # as if only the narrow one's had length 1
    monkeypatch.setattr(VectorStore, "has_cosine_scores", property(lambda store: store.width == 16))
    losses = {name: ScoreDistillation(teacher=name) for name in ("ce", "narrow", "store")} | {"labels": OneHot()}
    module = StudentModule(StudentFromTeacher([0, 3]), losses)
    module.prepare(world.data("ce", "narrow"))
    assert [module.losses[name].temperatures_in_use for name in ("ce", "narrow", "store")] == [(1.0, 1.0), (1.0, 0.05), (1.0, 1.0)]
    assert module.losses["labels"].temperature_in_use == 1.0


def test_queries_with_too_few_scored_candidates_are_left_out_and_said(world, caplog):
    for k, left_out in ((1, []), (2, ["train40"]), (3, ["train40"]), (4, ["train3", "train40"])):
        data = world.data("ce", candidates=k)
        kept = list(data.train_sets[0][0].ids)
        assert kept == [f"train{i}" for i in range(96) if f"train{i}" not in left_out] and len(data.candidate_rows) == len(kept)
        said = f"train: {len(left_out)} queries left out, of which fewer than {k} documents were read"
        assert caplog.messages == ([said] if left_out else [])
        caplog.clear()
    with pytest.raises(BadInput, match=r"data\.candidates: train: 96 queries left out.* set fewer, or encode with more"):
        world.data("ce", candidates=6)


def test_teachers_that_do_not_fit_the_data_are_refused(world, tmp_path):
    with pytest.raises(BadInput, match=r"ce-store has read candidates of the train split: set data\.candidates"):
        world.data("ce", candidates=0)
    with pytest.raises(BadInput, match=r"leave data\.queries out"):
        world.data("ce", queries=["more.tsv"])
    other = World(tmp_path, make_source(tmp_path / "texts", seed=9), world.store)
    assert distill("encode", "--teacher", world.root / "narrow", *other.encode("narrow")[3:]) == 0
    with pytest.raises(BadInput, match="narrow-store/documents: its vectors are not of the documents"):
        RetrievalData(MsMarcoTsv(str(world.source)), str(world.store), teachers=other.teachers("narrow"), candidates=4).setup("fit")
    make_source(tmp_path / "texts", documents=50)
    assert distill("encode", "--teacher", world.root / "narrow", *other.encode("narrow", out="fewer")[3:]) == 0
    with pytest.raises(BadInput, match="fewer: not the documents of"):
        RetrievalData(MsMarcoTsv(str(world.source)), str(world.store), teachers={"x": str(tmp_path / "fewer")}).setup("fit")


def test_two_cross_encoders_must_have_read_the_same_pairs(world, tmp_path):
    lines = [json.loads(line) for line in (world.root / "mined.jsonl").read_text().splitlines()]
    lines[7]["negatives"].pop(0)
    (tmp_path / "n.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert distill(*world.pairs("cls", out=str(tmp_path / "cls"), candidates=str(tmp_path / "n.jsonl"))) == 0
    teachers = {"ce": str(world.root / "ce-store"), "cls": str(tmp_path / "cls")}
    with pytest.raises(BadInput, match=f"no score of query '{lines[7]['query']}' and document 'd"):
        RetrievalData(MsMarcoTsv(str(world.source)), str(world.store), teachers=teachers, candidates=4).setup("fit")


# which losses learn from whom


def scores(teacher: str) -> tuple[str, dict[str, Any]]:
    return "ScoreDistillation", {"teacher": teacher}


LEARNS = {
    "scores and vectors of pooled pairs": (
        {"s": scores("ce"), "q": ("QueryMatching", {"teacher": "ce"}), "m": ("MarginMSE", {"teacher": "ce"})},
        ["ce"],
    ),
    "scores of a [CLS] head": ({"s": scores("cls"), "q": ("QueryMatching", {})}, ["cls"]),
    "scores and geometry of another width": ({"s": scores("narrow"), "g": ("SimilarityMatching", {"teacher": "narrow"})}, ["narrow"]),
}


@pytest.mark.parametrize(("losses", "teachers"), LEARNS.values(), ids=LEARNS)
def test_it_learns(losses, teachers, world, tmp_path):
    assert distill(*world.train(tmp_path / "run", losses, *teachers, more=["--trainer.max_epochs", 3])) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name in losses:
        values = [line[f"train/{name}"] for line in log if f"train/{name}" in line]
        assert np.mean(values[-5:]) < np.mean(values[:5]), name


REFUSED = {
    "no vectors": ({"q": ("QueryMatching", {"teacher": "cls"})}, ["losses.q: cls has scores, no vectors"]),
    "other width": ({"q": ("QueryMatching", {"teacher": "narrow"})}, ["losses.q: narrow has vectors 16 wide, the student 32"]),
    "no query alone, graph": ({"g": ("SimilarityMatching", {"teacher": "ce"})}, ["losses.g: a cross encoder has no vector of a query"]),
    "no query alone, contrast": ({"c": ("ContrastiveMatching", {"teacher": "ce"})}, ["losses.c: a cross encoder has no vector of"]),
    "unknown": ({"s": ("ScoreDistillation", {"teacher": "me"})}, ["losses.s.teacher: no teacher 'me': there are store, ce, cls, narrow"]),
    "no ensemble": ({"s": ("ScoreDistillation", {"teacher": "ensemble"})}, ["losses.s.teacher: no teacher 'ensemble'"]),
    "inherited documents": ({"d": ("DocumentMatching", {"teacher": "ce"})}, ["losses.d", "inherits the teacher's documents"]),
}


@pytest.mark.parametrize(("losses", "said"), REFUSED.values(), ids=REFUSED)
def test_a_teacher_that_cannot_feed_a_loss_is_refused(losses, said, world, refused, tmp_path):
    refused(world.train(tmp_path / "run", losses, "ce", "cls", "narrow"), *said)
    assert not (tmp_path / "run").exists()


def test_an_ensemble_has_scores_only(world, refused, tmp_path):
    ensemble = ["--model.ensemble.temperatures", '{"store": 0.05, "ce": 1.0}']
    for loss in ("QueryMatching", "SimilarityMatching"):
        refused(world.train(tmp_path / "run", {"x": (loss, {"teacher": "ensemble"})}, "ce", more=ensemble), "losses.x")
    fits = {"s": scores("ensemble")}
    refused(world.train(tmp_path / "run", fits, "cls", more=ensemble), "ensemble.temperatures: ce: there are store, cls")
    refused(world.train(tmp_path / "run", fits, "ce", more=[*ensemble, "--data.candidates", 1]), "data.candidates")
    named = ["--data.teachers", json.dumps({"store": str(world.root / "ce-store")})]
    refused(world.train(tmp_path / "run", fits, "ce", more=named), "data.teachers: store: this name has a meaning of its own")
