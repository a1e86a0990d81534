"""Students that embed documents themselves: who learns, what is saved, and that every verb searches the same vectors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from commands import distill, furthest, on_ranks, train_arguments, weights
from conftest import make_source
from test_resume import assert_same, stopped

from distill.callbacks.diagnosis import TEXTS_REENCODED
from distill.data.datamodule import RetrievalData
from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromTeacher
from distill.encoders.towers import Towers, load_towers
from distill.losses import DocumentMatching, Loss, OneHot, QueryMatching, ScoreDistillation, SimilarityMatching
from distill.metrics.trec_runs import read_trec
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.teachers.encode import encode
from distill.teachers.ensemble import EnsembleSettings
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import VectorStore

KINDS = ["shared", "separate", "teacher"]
BEST_BY = "dev/ndcg@10"  # labels lead away from the teacher
LOSSES = '{"one_hot": {"class_path": "OneHot"}, "documents": {"class_path": "DocumentMatching"}}'


def options(kind: str, *more: Any) -> list[Any]:
    return ["--model.documents", kind, "--data.candidates", 3, "--model.student.max_length", 12, *more]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path) -> dict[str, Path]:
    """Two epochs of each kind; texts of more than 12 tokens are cut."""
    root = tmp_path_factory.mktemp("towers")
    for kind in KINDS:
        assert distill(*train_arguments(source_root, store_folder, root / kind, *options(kind), losses=LOSSES)) == 0
    return {kind: root / kind for kind in KINDS}


def data_of(source: Path, store: Path, **settings: Any) -> RetrievalData:
    data = RetrievalData(MsMarcoTsv(str(source)), str(store), **{"candidates": 3, "batch_size": 16, **settings})
    data.setup("fit")
    return data


def student_of(
    data: RetrievalData, kind: str, losses: dict[str, Loss] | None = None, load_start: bool = True, **more: Any
) -> StudentModule:
    made = losses or {"one_hot": OneHot(), "documents": DocumentMatching()}
    module = StudentModule(StudentFromTeacher([0, 3], max_length=12), made, documents=kind, **more)
    module.prepare(data, load_start)
    return module


def batches(data: RetrievalData, module: StudentModule) -> Any:
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))))
    device = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(fit_loop=loop, global_rank=0, world_size=1, strategy=device)
    return data.train_dataloader()


def texts(path: Path) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in path.read_text().splitlines())


def test_documents_are_tokenised_once_for_all_evaluations(source_root, store_folder, tmp_path, monkeypatch):
    read = []
    token_ids = Encoder.token_ids

    def note(encoder: Encoder, texts: list[str], role: str) -> list[list[int]]:
        read.extend(texts if role == "document" else [])
        return token_ids(encoder, texts, role)

    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Encoder, "token_ids", note)
    arguments = train_arguments(source_root, store_folder, tmp_path / "run", *options("shared"), losses=LOSSES)
    assert distill(*arguments) == 0  # two epochs, an evaluation at the end of each
    assert len(read) == 60 + TEXTS_REENCODED  # documents, and those that the teacher reads for health


# who learns


@pytest.mark.parametrize("kind", ["inherited", *KINDS])
def test_the_gradient_reaches_the_towers_it_should(kind, source_root, store_folder):
    losses: dict[str, Loss] = {"query": QueryMatching(), "scores": ScoreDistillation(teacher_temperature=1.0)}
    losses |= {} if kind == "inherited" else {"documents": DocumentMatching()}
    data = data_of(source_root, store_folder)
    module = student_of(data, kind, losses)
    batch = next(iter(batches(data, module)))
    towers = {"encoder": module.encoder, "own": module.own_documents}
    reached = {"inherited": ["encoder"], "shared": ["encoder"]}.get(kind, ["encoder", "own"])
    wanted = {"query": ["encoder"], "scores": reached, "documents": [reached[-1]]}
    for name in losses:
        module.zero_grad()
        teacher = data.teacher(batch)
        module.compute_losses(module.encode_batch(batch, teacher), {"store": teacher}).losses[name].backward()
        found = {key for key, tower in towers.items() if tower and any(p.grad is not None and p.grad.any() for p in tower.parameters())}
        assert found == set(wanted[name]), name
    assert {id(p) for group in optimizer(module).param_groups for p in group["params"]} == {id(p) for p in module.parameters()}


@pytest.mark.parametrize("kind", ["separate", "teacher"])
def test_the_graph_of_the_batch_reaches_a_document_tower(kind, source_root, store_folder):
    """SimilarityMatching needs no candidates, but where there are some it reads them."""
    data = data_of(source_root, store_folder)
    module = student_of(data, kind, {"graph": SimilarityMatching()})
    batch = next(iter(batches(data, module)))
    teacher = data.teacher(batch)
    module.compute_losses(module.encode_batch(batch, teacher), {"store": teacher}).losses["graph"].backward()
    for tower in module.towers:
        assert any(p.grad is not None and p.grad.any() for p in tower.parameters())


def test_no_judged_document_is_a_negative(source_root, store_folder):
    """Among the teacher's top documents and in other queries' columns there are more of them than the one that answers."""
    data = data_of(source_root, store_folder)
    module = student_of(data, "inherited", {"one_hot": OneHot(temperature=0.1)})
    batch = next(iter(batches(data, module)))
    judged = data.source.qrels("train").judgments
    query_ids = [data.train_sets[0][0].ids[row] for row in batch.query_rows.tolist()]
    ids = [[data.store.documents.ids[row] for row in rows] for rows in batch.document_rows.tolist()]
    with torch.inference_mode():
        student = module.encode_batch(batch, data.teacher(batch))
        found = float(module.losses["one_hot"](student, student))
    losses, left_out = [], 0
    for query, vector, own in zip(query_ids, student.query, ids, strict=True):
        answer, *others = own
        others += [document for rows in ids for document in rows if document not in own]
        negatives = [document for document in others if document not in judged[query]]
        left_out += len(others) - len(negatives)
        columns = student.document.flatten(0, 1)
        scores = {document: float(vector @ column) / 0.1 for document, column in zip(np.ravel(ids), columns, strict=True)}
        kept = torch.tensor([scores[answer], *(scores[document] for document in negatives)], dtype=torch.float64)
        losses.append(float(kept.logsumexp(0) - kept[0]))
    assert left_out > 20 and found == pytest.approx(np.mean(losses), abs=1e-4)


def optimizer(module: StudentModule) -> torch.optim.Optimizer:
    module._trainer = SimpleNamespace(gradient_clip_val=1.0, strategy=SimpleNamespace(root_device=torch.device("cpu")))
    return module.make_optimizer()


@pytest.mark.parametrize("kind", KINDS)
def test_towers_begin_where_they_should_and_read_the_batchs_documents(kind, source_root, store_folder, teacher_folder):
    data = data_of(source_root, store_folder)
    module, teacher = student_of(data, kind), load_encoder(str(teacher_folder))
    own = module.document_tower
    assert own is not None and (own is module.encoder) == (kind == "shared")
    alike = (teacher if kind == "teacher" else module.encoder).state_dict()
    assert all(tensor.equal(alike[name]) for name, tensor in own.state_dict().items())
    if kind != "shared":
        assert not {p.data_ptr() for p in own.parameters()} & {p.data_ptr() for p in module.encoder.parameters()}
    assert own.settings.max_length == (32 if kind == "teacher" else 12)
    batch, words = next(iter(batches(data, module))), texts(source_root / "collection.tsv")
    read = [words[data.store.documents.ids[row]] for row in batch.document_rows.ravel().tolist()]
    with torch.inference_mode():
        found = module.encode_batch(batch, data.teacher(batch))
        torch.testing.assert_close(found.document.flatten(0, 1), own.encode(read, "document"), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.scores, torch.einsum("bd,bkd->bk", found.query, found.document))


def test_an_ensembles_weights_follow_the_labels_and_not_the_student(source_root, store_folder):
    data = data_of(source_root, store_folder, teachers={"again": str(store_folder)})
    module = student_of(
        data, "inherited", {"s": ScoreDistillation(teacher="ensemble")}, ensemble=EnsembleSettings({"store": 0.05, "again": 1.0}, "learned")
    )
    module.log = module.log_dict = lambda *_, **__: None
    batch = next(iter(batches(data, module)))
    gradients = []
    for weight in (0.0, 100.0):
        module.zero_grad()
        module.losses["s"].weight = weight
        module.training_step(batch, 0).backward()
        gradients.append(torch.cat([p.grad for p in module.ensemble.parameters()]))
    assert gradients[0].any() and gradients[0].equal(gradients[1])
    assert module.losses["s"].temperatures_in_use == (0.05, 1.0)  # log shares are logits


REFUSED = {
    "no documents to learn from": ("shared", {}, {"candidates": 0}, "losses.one_hot: OneHot scores documents, but data.candidates is 0"),
    "no candidates": ("shared", {"g": SimilarityMatching()}, {"candidates": 0}, "model.documents: shared learns from documents"),
    "a tower that would learn nothing": ("separate", {"q": QueryMatching()}, {}, "separate: none of the losses reads documents"),
}


@pytest.mark.parametrize(("kind", "losses", "settings", "words"), REFUSED.values(), ids=REFUSED)
def test_documents_that_nobody_learns_from_are_refused(kind, losses, settings, words, source_root, store_folder):
    with pytest.raises(BadInput, match=words):
        student_of(data_of(source_root, store_folder, **settings), kind, losses)


@pytest.mark.parametrize("length", [2, 33])
def test_texts_of_impossible_length_are_refused(length, source_root, store_folder):
    module = StudentModule(StudentFromTeacher([0], max_length=length), {"q": QueryMatching()})
    with pytest.raises(BadInput, match=rf"max_length: {length}: must be from 3 to 32"):
        module.prepare(data_of(source_root, store_folder))


# what is saved, evaluated and searched


@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_student_is_the_best_checkpoint(kind, runs, source_root, store_folder):
    module = student_of(data_of(source_root, store_folder), kind)
    module.load_state_dict(weights(runs[kind] / "checkpoints" / "best.ckpt"))
    saved = load_towers(str(runs[kind] / "student"))
    assert saved.shared == (kind == "shared")
    ours = Towers(module.encoder, module.document_tower)
    words = list(texts(source_root / "collection.tsv").values())[:20]
    for role in ("query", "document"):
        assert torch.equal(saved.encode(words, role), ours.eval().encode(words, role))
    assert saved.fingerprint() == ours.fingerprint()


def dev_lines(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "dev/seconds"} for line in lines if "dev/cosine" in line]


def vectors(towers: Towers, source: Path, split: str) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Ids and vectors of queries [Q, D] and documents [N, D], each text by the student's folder."""
    queries, documents = texts(source / f"queries.{split}.tsv"), texts(source / "collection.tsv")
    of_queries, of_documents = towers.encode(list(queries.values()), "query"), towers.encode(list(documents.values()), "document")
    return list(queries), list(documents), of_queries.numpy(), of_documents.half().float().numpy()


def assert_ranked_by(found: dict[str, list[tuple[str, float]]], towers: Towers, source: Path, split: str) -> None:
    """A TREC run has the documents of a brute-force search; neighbours whose scores are a rounding apart may have changed places."""
    query_ids, document_ids, queries, documents = vectors(towers, source, split)
    assert list(found) == query_ids
    for query, vector in zip(query_ids, queries, strict=True):
        scores = dict(zip(document_ids, documents @ vector, strict=True))
        assert {document for document, _ in found[query]} == set(document_ids)
        ours = np.array([scores[document] for document, _ in found[query]])
        assert np.all(ours[:-1] >= ours[1:] - 1e-4)
        np.testing.assert_allclose(ours, [score for _, score in found[query]], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_ranks_by_the_students_own_vectors_as_training_did(kind, runs, source_root):
    run = runs[kind]
    assert distill("evaluate", run, "--split", "dev") == 0
    assert_ranked_by(read_trec(run / "runs" / "dev" / "student.trec"), load_towers(str(run / "student")), source_root, "dev")
    results, best = json.loads((run / "results.json").read_text()), max(dev_lines(run), key=lambda line: line[BEST_BY])
    for name in ("mrr@10", "ndcg@10", "recall@100"):
        assert best[f"dev/{name}"] == pytest.approx(results["systems"]["student"][name], abs=1e-6)
        assert best[f"dev/retention_{name}"] == pytest.approx(results["retention"][name]["value"], abs=1e-6)
    for name in ("overlap@10", "cosine"):
        assert best[f"dev/{name}"] == pytest.approx(results["agreement"][name], abs=1e-6)
    assert distill("report", run) == 0
    page = (run / "report.html").read_text()
    assert "Alignment" in page and "Left out" not in page


def test_search_answers_from_the_students_own_vectors(runs, source_root, capsys):
    towers, documents = load_towers(str(runs["separate"] / "student")), texts(source_root / "collection.tsv")
    scores = towers.encode(list(documents.values()), "document") @ towers.encode(["find the old river"], "query")[0]
    capsys.readouterr()
    assert distill("search", runs["separate"], "find the old river", "--k", 1) == 0
    best = int(scores.argmax())
    (score, document), *_ = re.findall(r"^  1\. (\S+)  (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert document == list(documents)[best] and float(score) == pytest.approx(float(scores[best]), abs=2e-3)  # stored ones are fp16


def test_another_corpus_of_the_same_name_is_embedded_anew(runs, source_root, teacher_folder, tmp_path):
    other = make_source(tmp_path / source_root.name, documents=30, seed=7)
    source = ["--source", "MsMarcoTsv", "--source.root", other]
    assert distill("encode", "--teacher", teacher_folder, *source, "--precision", "fp32", "--out", tmp_path / "store") == 0
    run = runs["shared"]
    assert distill("evaluate", run, *source, "--store", tmp_path / "store", "--out", tmp_path / "results.json") == 0
    assert_ranked_by(read_trec(tmp_path / "runs" / "test" / "student.trec"), load_towers(str(run / "student")), other, "test")


def test_an_index_that_the_student_does_not_search_is_not_exported(runs, capsys):
    assert distill("export", runs["teacher"]) == 2
    assert "embeds documents itself" in capsys.readouterr().err


def test_a_sample_of_the_corpus_on_dev(source_root, store_folder, tmp_path):
    """Both systems search all judged documents and a random rest."""
    extra = options("shared", "--trainer.max_epochs", 1, "--data.dev_documents", 50)
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *extra, losses=LOSSES)) == 0
    data = data_of(source_root, store_folder, dev_documents=50)
    judged = data.source.qrels("dev").judgments
    corpus = [data.store.documents.ids[row] for row in data.dev_corpus]
    assert {document for grades in judged.values() for document in grades} <= set(corpus) and 50 <= len(corpus) < 60
    (line,) = dev_lines(tmp_path / "run")
    ids, document_ids, queries, documents = vectors(load_towers(str(tmp_path / "run" / "student")), source_root, "dev")
    stored = [VectorStore(store_folder / part)[:].astype(np.float32) for part in ("queries-dev", "documents")]
    for key, (of_queries, of_documents) in {"mrr@10": (queries, documents), "teacher": stored}.items():
        reciprocal = []
        for query, scores in zip(ids, of_queries @ of_documents.T, strict=True):
            ranked = [document_ids[row] for row in np.argsort(-scores, kind="stable") if document_ids[row] in corpus][:10]
            reciprocal.append(next((1 / rank for rank, document in enumerate(ranked, 1) if document in judged[query]), 0))
        found = line["dev/mrr@10"] / (line["dev/retention_mrr@10"] if key == "teacher" else 1)
        assert found == pytest.approx(np.mean(reciprocal), abs=1e-5)


# imported vectors, whose documents lie in another order than the texts


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory, store_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("turned")
    for part in ("documents", "queries-train", "queries-dev", "queries-test"):
        store, queries = VectorStore(store_folder / part), part.removeprefix("queries-")
        rows = np.random.default_rng(1).permutation(len(store))
        np.save(folder / "v.npy", store[:][rows].astype(np.float32))
        (folder / "i.txt").write_text("".join(f"{store.ids[row]}\n" for row in rows))
        which = ["--name", "elsewhere"] if part == "documents" else ["--queries", queries]
        assert distill("import", "--vectors", folder / "v.npy", "--ids", folder / "i.txt", *which, "--out", folder / "store") == 0
    return folder / "store"


def test_rows_of_imported_vectors_have_their_own_texts(turned, source_root, teacher_folder, tmp_path):
    data, words = data_of(source_root, turned), texts(source_root / "collection.tsv")
    ids = data.store.documents.ids
    assert list(ids) != list(words)
    assert data.document_texts(np.array([5, 0, 59])) == [words[ids[row]] for row in (5, 0, 59)]
    assert data.document_texts(data.candidate_rows[7]) == [words[ids[row]] for row in data.candidate_rows[7]]
    losses = '{"query": {"class_path": "QueryMatching"}, "documents": {"class_path": "DocumentMatching"}}'
    backbone = ["--model.student", "StudentFromBackbone", "--model.student.name", teacher_folder]
    more = ["--model.documents", "shared", "--data.candidates", 3, "--trainer.max_epochs", 1, "--model.learning_rate", 1e-9]
    arguments = train_arguments(source_root, turned, tmp_path / "run", *more, losses=losses)
    assert distill("train", *backbone, *arguments[5:]) == 0  # without the student that is named there
    # this student is its teacher: each document has to be found where the teacher's vector of it is
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["train/documents"] for line in log if "train/documents" in line) < 2e-3
    assert dev_lines(tmp_path / "run")[0]["dev/overlap@10"] > 0.98
    assert distill("evaluate", tmp_path / "run", "--split", "dev") == 0
    assert_ranked_by(
        read_trec(tmp_path / "run" / "runs" / "dev" / "student.trec"), load_towers(str(tmp_path / "run" / "student")), source_root, "dev"
    )
    assert json.loads((tmp_path / "run" / "results.json").read_text())["agreement"]["overlap@10"] > 0.98


# processes that die or share the work


def learned(store: Path) -> list[Any]:
    """A second teacher and a mixture of both, whose weights are learned too."""
    mixture = ["--model.ensemble.temperatures", '{"store": 0.05, "again": 1.0}', "--model.ensemble.weights", "learned"]
    return ["--data.teachers", json.dumps({"again": str(store)}), *mixture]


MIXED = json.dumps({**json.loads(LOSSES), "s": {"class_path": "ScoreDistillation", "init_args": {"teacher": "ensemble"}}})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shared", "teacher"])
def test_killed_training_goes_on(kind, runs, source_root, store_folder, tmp_path):
    """In the middle of the second epoch; it begins from the weights of another run, which a checkpoint then wins over."""
    start = ["--model.start_from", runs[kind] / "student"]
    more = options(kind, *learned(store_folder), *start, "--checkpoint_every_n_steps", 2)
    whole, killed = (train_arguments(source_root, store_folder, tmp_path / name, *more, losses=MIXED) for name in ("whole", "killed"))
    assert distill(*whole) == 0
    assert stopped(killed, "on_train_batch_end", 9).returncode == -9
    assert torch.load(tmp_path / "killed" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert distill(*killed) == 0
    if kind == "shared":
        return assert_same(tmp_path / "killed", tmp_path / "whole")
    for name in ("last", "best"):
        assert furthest(*(tmp_path / run / "checkpoints" / f"{name}.ckpt" for run in ("killed", "whole"))) == 0
    assert dev_lines(tmp_path / "killed") == dev_lines(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shared", "separate"])
def test_two_ranks_equal_one(kind, source_root, store_folder, tmp_path):
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8]
    more = options(
        kind, *([] if kind == "shared" else learned(store_folder)), "--data.dev_documents", 49
    )  # 25 to one rank, 24 to the other
    losses = LOSSES if kind == "shared" else MIXED
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "one", *more, losses=losses)) == 0
    found = on_ranks(*train_arguments(source_root, store_folder, tmp_path / "two", *more, *ranks, losses=losses))
    assert found.returncode == 0, found.stderr
    # a softmax does not see its keys' bias: its gradient is rounding noise, which Adam scales up, and so a single weight's may be;
    # ranks that did not see each other's documents end 1e-2 apart
    assert furthest(*(tmp_path / run / "checkpoints" / "last.ckpt" for run in ("one", "two")), without="key.bias") < 1e-3
    for ours, theirs in zip(dev_lines(tmp_path / "one"), dev_lines(tmp_path / "two"), strict=True):
        assert theirs["dev/cosine"] == pytest.approx(ours["dev/cosine"], abs=1e-5)
        assert theirs["dev/recall@100"] == pytest.approx(ours["dev/recall@100"], abs=1e-6)
        assert theirs["dev/mrr@10"] == pytest.approx(ours["dev/mrr@10"], abs=0.02)  # 12 queries; neighbours may change places


def test_a_copy_of_a_teacher_of_16_bits_is_trained_in_fp32(source_root, teacher_folder, tmp_path):
    folder = shutil.copytree(teacher_folder, tmp_path / "teacher")
    load_encoder(str(folder)).backbone.bfloat16().save_pretrained(folder)
    source = MsMarcoTsv(str(source_root))
    encode(str(folder), source, str(tmp_path / "store"), precision="bf16", weights="bf16")
    data = RetrievalData(source, str(tmp_path / "store"), candidates=2)
    data.setup("fit")
    module = StudentModule(StudentFromTeacher(2), {"d": DocumentMatching()}, documents="teacher")
    module.prepare(data)
    assert {tower.backbone.dtype for tower in module.towers} == {torch.float32}
