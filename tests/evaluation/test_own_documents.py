"""A world in which queries are documents, as in ArguAna: their own document is no answer in any verb, file or figure."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import distill, train_arguments
from conftest import make_source

from distill.callbacks.retrieval_eval import RetrievalEval, SearchedDocuments
from distill.data.datamodule import RetrievalData
from distill.data.judged_pairs import PairsData
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.evaluation.evaluate import evaluate
from distill.evaluation.rerank import rerank
from distill.files.atomic import read_json
from distill.metrics.trec_runs import read_trec
from distill.modules.dual_teacher import DualTeacher
from distill.records import BadInput
from distill.report.evidence import RunEvidence
from distill.teachers.candidates import find_candidates, read_scored_candidates
from distill.teachers.encode import encode
from distill.teachers.first_stage import retrieve_first_stage
from distill.teachers.mining import mine
from distill.teachers.negatives import MinedNegatives, RandomNegatives, TopNegatives
from distill.texts.ids import Ids
from distill.texts.qrels import read_qrels
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import TeacherStore, VectorStore
from distill.vectors.store_writer import StoreWriter

ir_measures = pytest.importorskip("ir_measures")

# queries of each split that are the documents of these numbers; the first of test is judged to be answered by its own document
FIRST = {"train": 20, "dev": 0, "test": 6}
SHARED = 6


def own_id(split: str, number: int) -> str:
    return f"d{FIRST[split] + number}" if number < SHARED else f"{split}{number}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world, whose first queries of every split are renamed to documents and have their words."""
    folder = make_source(tmp_path_factory.mktemp("own") / "texts", train=64)
    documents = dict(line.split("\t") for line in (folder / "collection.tsv").read_text().splitlines())
    for split in FIRST:
        new_ids = {f"{split}{number}": own_id(split, number) for number in range(64)}
        queries = [line.split("\t") for line in (folder / f"queries.{split}.tsv").read_text().splitlines()]
        texts = {new_ids[old]: documents.get(new_ids[old], text) for old, text in queries}
        (folder / f"queries.{split}.tsv").write_text("".join(f"{id_}\t{text}\n" for id_, text in texts.items()))
        judgments = [line.split("\t") for line in (folder / f"qrels.{split}.tsv").read_text().splitlines()]
        kept = [(new_ids[query], document, grade) for query, _, document, grade in judgments if new_ids[query] != document]
        if split == "test":
            kept.append((own_id(split, 0), own_id(split, 0), "1"))
        (folder / f"qrels.{split}.tsv").write_text("".join(f"{query}\t0\t{document}\t{grade}\n" for query, document, grade in kept))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, root: Path) -> Path:
    folder = tmp_path_factory.mktemp("own") / "store"
    encode(teacher=str(teacher_folder), source=MsMarcoTsv(str(root)), out=str(folder), precision="fp32")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, root: Path, store: Path) -> Path:
    folder = tmp_path_factory.mktemp("own") / "run"
    assert distill(*train_arguments(root, store, folder, "--trainer.max_epochs", 1, "--data.candidates", 3)) == 0
    return folder


def expected_rankings(root: Path, store: Path, split: str, queries: np.ndarray) -> dict[str, list[str]]:
    """By full sort: every document but the query's own, unless that is judged relevant."""
    source, documents = MsMarcoTsv(str(root)), TeacherStore(store).documents
    judgments, ids = read_qrels(root / f"qrels.{split}.tsv").judgments, list(documents.ids)
    order = np.argsort(-(queries.astype(np.float32) @ documents[:].astype(np.float32).T), axis=1, kind="stable")
    rankings = {}
    for query, rows in zip(source.queries(split).ids, order, strict=True):
        rankings[query] = [ids[row] for row in rows if ids[row] != query or judgments.get(query, {}).get(query, 0)]
    return rankings


def expected_metrics(root: Path, split: str, rankings: dict[str, list[str]]) -> dict[str, float]:
    """The means over judged queries by ir-measures."""
    qrels = list(ir_measures.read_trec_qrels(str(root / f"qrels.{split}.tsv")))
    run = [ir_measures.ScoredDoc(query, document, -float(rank)) for query, found in rankings.items() for rank, document in enumerate(found)]
    names = {ir_measures.RR @ 10: "mrr@10", ir_measures.nDCG @ 10: "ndcg@10", ir_measures.R @ 100: "recall@100"}
    return {names[measure]: value for measure, value in ir_measures.calc_aggregate(names, qrels, run).items()}


def stored_queries(root: Path, store: Path, split: str) -> np.ndarray:
    source = MsMarcoTsv(str(root))
    part = TeacherStore(store).queries(split, source.queries(split).fingerprints("query"))
    return part.take(part.ids.rows(list(source.queries(split).ids)))


def test_evaluate_as_beir_does(run: Path, root: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Metrics, agreement and the run files; a baseline's own documents are not copied, and its others move up."""
    baseline = tmp_path / "first.trec"
    documents = ["d6", "d7", "d8", "d9", "d40"]
    lines = [f"{own_id('test', number)} Q0 {id_} 1 {-rank} b\n" for number in range(12) for rank, id_ in enumerate(documents)]
    baseline.write_text("".join(lines))
    out = tmp_path / "results.json"
    assert distill("evaluate", run, "--baselines", json.dumps({"first": str(baseline)}), "--out", out) == 0
    printed = capsys.readouterr().out
    assert printed.count("test: the document with the query's own id is left out for 5 of 12 queries, and kept for 1 where it is") == 1
    assert f"test of {baseline}: the document with the query's own id is left out for 3 queries" in printed
    results = read_json(out, "results")
    student = load_encoder(str(run / "student")).encode(MsMarcoTsv(str(root)).queries("test").read(range(12)), "query").numpy()
    rankings = {
        "teacher": expected_rankings(root, store, "test", stored_queries(root, store, "test")),
        "student": expected_rankings(root, store, "test", student),
        "first": {own_id("test", n): [id_ for id_ in documents if id_ != own_id("test", n) or n == 0] for n in range(12)},
    }
    for name, expected in rankings.items():
        written = read_trec(tmp_path / "runs" / "test" / f"{name}.trec")
        assert {query: [id_ for id_, _ in found] for query, found in written.items()} == expected
        for metric, value in expected_metrics(root, "test", expected).items():
            assert results["systems"][name][metric] == pytest.approx(value, abs=1e-6)
    shared = [len(set(rankings["teacher"][q][:10]) & set(rankings["student"][q][:10])) / 10 for q in rankings["teacher"]]
    assert results["agreement"]["overlap@10"] == pytest.approx(np.mean(shared))
    assert results["provenance"]["own_documents_left_out"] == 5


def test_a_baseline_that_lies_among_the_rankings_is_left_as_it_is(run: Path, tmp_path: Path) -> None:
    """The report reads it as the evaluation did, without its own documents."""
    folder = shutil.copytree(run, tmp_path / "run")
    given = folder / "runs" / "test" / "given.trec"
    given.parent.mkdir(parents=True)
    lines = [
        f"{own_id('test', number)} Q0 {id_} 1 {-rank} b\n" for number in range(12) for rank, id_ in enumerate(["d7", "d8", "d40", "d6"])
    ]
    given.write_text("".join(lines))
    assert distill("evaluate", folder, "--baselines", json.dumps({"given": str(given)})) == 0
    assert given.read_text() == "".join(lines)
    queries = RunEvidence(folder).queries
    results = read_json(folder / "results.json", "results")
    assert queries is not None and queries.values["given"]["mrr@10"].mean() == pytest.approx(results["systems"]["given"]["mrr@10"])


def test_evaluation_during_training_measures_the_same(run: Path, root: Path, store: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = next(line for line in reversed(lines) if "dev/ndcg@10" in line)
    student = load_encoder(str(run / "student")).encode(MsMarcoTsv(str(root)).queries("dev").read(range(12)), "query").numpy()
    teacher = expected_rankings(root, store, "dev", stored_queries(root, store, "dev"))
    expected = expected_rankings(root, store, "dev", student)
    values = expected_metrics(root, "dev", expected)
    for name, value in values.items():
        assert measured[f"dev/{name}"] == pytest.approx(value, abs=1e-5)
    kept = values["ndcg@10"] / expected_metrics(root, "dev", teacher)["ndcg@10"]
    assert measured["dev/retention_ndcg@10"] == pytest.approx(kept, abs=1e-5)
    shared = [len(set(teacher[query][:10]) & set(expected[query][:10])) / 10 for query in teacher]
    assert measured["dev/overlap@10"] == pytest.approx(np.mean(shared), abs=1e-5)


def test_the_option_keeps_them(root: Path, store: Path) -> None:
    vectors = [stored_queries(root, store, "test").astype(np.float32), TeacherStore(store).documents[:].astype(np.float32)]
    kept = evaluate(vectors[0], tuple(vectors), MsMarcoTsv(str(root), keep_own_documents=True))
    assert all(kept.rankings["teacher"].rows[number, 0] == 6 + number for number in range(SHARED))  # the same words: at the top
    left_out = evaluate(vectors[0], tuple(vectors), MsMarcoTsv(str(root)))
    assert left_out.rankings["teacher"].rows[0, 0] == 6  # judged relevant
    for number in range(1, SHARED):
        assert 6 + number not in left_out.rankings["teacher"].rows[number]
        assert left_out.rankings["teacher"].rows[number, -1] == -1  # 59 others of 60 documents


def test_candidates_of_a_training(root: Path, store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows d20 to d25 are the documents of the first train queries: neither candidates nor negatives of other queries' candidates."""
    caplog.set_level(logging.INFO, "distill")
    data = RetrievalData(MsMarcoTsv(str(root)), str(store), candidates=4)
    data.setup("fit")
    ranked = expected_rankings(root, store, "train", stored_queries(root, store, "train"))
    ids = TeacherStore(store).documents.ids
    for query, rows in zip(data.training_queries.split_ids(), data.candidate_rows, strict=True):
        documents = [ids[row] for row in rows]
        assert query not in documents and set(documents[1:]) <= set(ranked[query][:4])
    assert data.dev_own_documents is not None and data.dev_own_documents.tolist() == [0, 1, 2, 3, 4, 5, *[-1] * 6]
    own = data.training_queries.own_documents(data.source, ids)
    never = data.training_queries.never_negatives(data.source.qrels("train"), ids, own)
    for row, query in enumerate(data.training_queries.split_ids()):
        documents = [ids[place] for place in never.rows_for(np.array([row]))[0] if place >= 0]
        assert (query in documents) == query.startswith("d")
    assert "own_documents" in data.vector_fingerprints()
    assert "train: the document with the query's own id is left out for 6 of" in caplog.text
    kept = RetrievalData(MsMarcoTsv(str(root), keep_own_documents=True), str(store), candidates=4)
    kept.setup("fit")
    assert "own_documents" not in kept.vector_fingerprints() and kept.dev_own_documents is None
    with pytest.raises(BadInput, match=r"data\.candidates: 60, but the corpus has 59 documents beside a query's own: set fewer"):
        RetrievalData(MsMarcoTsv(str(root)), str(store), candidates=60).setup("fit")


def test_first_stages_candidates_and_rerank(root: Path, store: Path, teacher_folder: Path, tmp_path: Path) -> None:
    """k documents remain after the own one is gone, of a store and of a run, and 59 of 60 documents at most."""
    source = MsMarcoTsv(str(root))
    ranked = expected_rankings(root, store, "test", stored_queries(root, store, "test"))
    given = tmp_path / "all.trec"
    lines = [
        f"{query} Q0 {id_} 1 {-rank} x\n" for query, found in ranked.items() for rank, id_ in enumerate([query, *found]) if id_[0] == "d"
    ]
    given.write_text("".join(sorted(set(lines), key=lines.index)).replace("d6 Q0 d6 1 0 x\n", "", 1))
    corpus = source.documents().ids
    for first_stage in (store, given):
        rows = retrieve_first_stage(str(first_stage), source, "test", source.queries("test"), 5)
        assert [[corpus[row] for row in part] for part in rows] == [found[:5] for found in ranked.values()]
        rows = retrieve_first_stage(str(first_stage), source, "test", source.queries("test"), 60)
        assert [(part >= 0).sum() for part in rows] == [len(found) for found in ranked.values()]
        for query, part in zip(ranked, find_candidates(str(first_stage), source, "test", 4), strict=True):
            assert query == "d6" or query not in [corpus[row] for row in part]
    rerank(str(teacher_folder), source, str(given), str(tmp_path / "out"), top=60)
    written = read_trec(tmp_path / "out" / "runs" / "test" / "reranked.trec")
    assert {query: {id_ for id_, _ in found} for query, found in written.items()} == {query: set(found) for query, found in ranked.items()}


def test_mined_negatives_and_files_of_others(root: Path, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "distill")
    source = MsMarcoTsv(str(root))
    mined = mine(str(store), source, str(tmp_path / "mined"), split="test", negatives=60, margin=-100)
    lines = {line.query: line.negatives for line in mined}
    assert len(lines) == 12 and all(query not in negatives for query, negatives in lines.items())
    assert "test: the document with the query's own id is left out for 5 of 12 queries" in caplog.text
    keeping = MsMarcoTsv(str(root), keep_own_documents=True)
    kept = {line.query: line.negatives for line in mine(str(store), keeping, str(tmp_path / "kept"), "test", negatives=60, margin=-100)}
    assert {query for query in kept if query in kept[query]} == {own_id("test", number) for number in range(1, SHARED)}
    with pytest.raises(BadInput, match="own_documents"):
        mine(str(store), source, str(tmp_path / "kept"), "test", negatives=60, margin=-100)
    # a file of another program, or of an earlier release, has them
    candidates = find_candidates(str(tmp_path / "kept"), source, "test", 4)
    corpus = source.documents().ids
    for query, rows in zip(source.queries("test").ids, candidates, strict=True):
        assert (rows >= 0).all() and [corpus[row] for row in rows[1:]] == [id_ for id_ in kept[query] if id_ in lines[query]][:3]


@pytest.mark.parametrize("kind", ["random", "top", "mined"])
def test_a_teacher_never_learns_that_they_are_negatives(root: Path, store: Path, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mined.jsonl").write_text(json.dumps({"query": "d20", "positive": "d1", "negatives": ["d20", "d30", "d31"]}) + "\n")
    negatives = {
        "random": RandomNegatives(),
        "top": TopNegatives(str(store), depth=5),
        "mined": MinedNegatives(str(tmp_path / "mined.jsonl")),
    }
    data = PairsData(MsMarcoTsv(str(root)), negatives[kind], negatives_per_query=40 if kind == "random" else 4)
    data.setup("fit")
    assert "own_documents" in data.fingerprints()
    examples = data.sampler.examples
    own = data.corpus.rows([data.train_queries.ids[query] for query in examples.queries])
    assert (own >= 0).any()
    assert not (examples.pools == own[:, None])[own >= 0].any()
    rows = np.flatnonzero(own >= 0)[:20]
    assert not (data.sampler.draw_candidates(rows, epoch=0) == own[rows, None]).any()
    assert (data.sampler.relevant.rows_for(examples.queries[rows]) == own[rows, None]).any(axis=1).all()
    if kind == "mined":
        assert examples.pools.tolist() == [[30, 31, -1]]


def test_a_store_of_pairs_that_has_them_is_read_without(root: Path, tmp_path: Path) -> None:
    pairs = ["d20\td20", "d20\td1", "d20\td2", "train9\td20", "train9\td1"]
    writer = StoreWriter(tmp_path / "pairs-train", Ids.of(pairs), 1, Maker("by hand", "f"), "t")
    writer.write_shard(0, np.zeros((len(pairs), 1)))
    writer.finish()
    store, source = VectorStore(tmp_path / "pairs-train"), MsMarcoTsv(str(root))
    assert read_scored_candidates(store, 2, source, "train") == {"d20": ["d1", "d2"], "train9": ["d20", "d1"]}
    assert read_scored_candidates(store, 2)["d20"] == ["d20", "d1"]


def test_a_run_of_an_earlier_release_goes_on(run: Path, root: Path, store: Path, tmp_path: Path) -> None:
    """Its record has no such option, and where no candidates are left out nothing else differs."""
    folder = tmp_path / "run"
    arguments = train_arguments(root, store, folder, "--trainer.max_epochs", 1)
    shutil.copytree(run, folder)
    record = read_json(folder / "run.json", "record")
    record["inputs"]["data"]["candidates"] = 0
    del record["inputs"]["data"]["source"]["init_args"]["keep_own_documents"], record["inputs"]["vectors"]["own_documents"]
    (folder / "run.json").write_text(json.dumps(record))
    assert distill(*arguments) == 0
    assert distill(*arguments, "--data.source.keep_own_documents", "true") == 0
    assert distill(*train_arguments(root, store, folder, "--trainer.max_epochs", 1, "--data.candidates", 3)) == 2


def test_a_teacher_in_training_is_measured_without_them(root: Path, store: Path, teacher_folder: Path) -> None:
    teacher, data = DualTeacher(str(teacher_folder)), PairsData(MsMarcoTsv(str(root)), RandomNegatives(), dev_documents=55)
    teacher.prepare()
    teacher._trainer = SimpleNamespace(precision="32-true")  # type: ignore[assignment]
    data.setup("fit")
    data.connect(teacher)
    rows = np.array([11, 0, 5])  # a batch in an order of its own
    ranked = teacher.rank_documents(data, rows, torch.from_numpy(stored_queries(root, store, "dev")[rows]).float())
    searched = {data.corpus[row] for row in data.dev_corpus}
    ids = [data.dev_queries.ids[row] for row in rows]
    expected = expected_rankings(root, store, "dev", stored_queries(root, store, "dev"))
    for query, found in zip(ids, ranked.tolist(), strict=True):
        assert {data.corpus[row] for row in found if row >= 0} == searched & set(expected[query])


def test_documents_of_a_student_that_embeds_them_itself() -> None:
    """A sample of the store's rows is searched; the own document of the third query is not in it."""
    vectors = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.0, 1.0]])
    searched = SearchedDocuments(np.array([2, 5, 9]), vectors, vectors)
    evaluation = RetrievalEval()
    evaluation.data = SimpleNamespace(dev_own_documents=np.array([-1, 2, 7, 9]))  # type: ignore[assignment]
    queries = torch.tensor([[1.0, 0.1], [1.0, 0.1], [0.1, 1.0]])
    found = evaluation._rank_documents(np.array([1, 2, 3]), queries, searched, vectors)
    assert found.tolist() == [[5, 9, -1], [2, 5, 9], [2, 5, -1]]
