"""A suite of collections: the figures of each, their means and intervals, teachers' vectors in the cache, what is refused."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from collections_of_words import QUERIES, write_collection
from commands import distill

from distill.encoders.towers import load_towers
from distill.evaluation.evaluate import evaluate, evaluate_run
from distill.evaluation.latency import measure_query_latency
from distill.evaluation.suite import evaluate_suite
from distill.evaluation.suite_results import SuiteResults
from distill.records import BadInput
from distill.report.report import report
from distill.texts.suite import open_collections
from distill.training.run_paths import with_absolute_paths

LENGTHS = {"north": (3, 7), "south": (20, 40)}  # words of a query


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    for seed, (name, lengths) in enumerate(LENGTHS.items()):
        write_collection(folder / name, lengths, seed)
    return folder


@pytest.fixture(scope="module")
def results(suite: Path, run_folder: Path, teacher_folder: Path) -> SuiteResults:
    return evaluate_suite(run_folder / "student", teacher_folder, suite)


def rank_by_hand(folder: Path, queries: str, documents: str) -> dict[str, list[str]]:
    """Ids of all documents by query, by exact products in float64."""
    rows = {file: [json.loads(line) for line in (folder / f"{file}.jsonl").read_text().splitlines()] for file in ("queries", "corpus")}
    query_vectors, document_vectors = (
        load_towers(model).encode([row["text"] for row in rows[file]], role).double().numpy()
        for model, file, role in ((queries, "queries", "query"), (documents, "corpus", "document"))
    )
    if queries == documents:
        query_vectors = query_vectors.astype(np.float16).astype(np.float64)  # as a store keeps the teacher's
    document_vectors = document_vectors.astype(np.float16).astype(np.float64)
    order = np.argsort(-(query_vectors @ document_vectors.T), axis=1)
    return {query["_id"]: [rows["corpus"][row]["_id"] for row in ranked] for query, ranked in zip(rows["queries"], order, strict=True)}


def test_figures_are_those_of_ir_measures(suite, run_folder, teacher_folder, store_folder):
    ir_measures = pytest.importorskip("ir_measures")
    results = evaluate_suite(run_folder / "student", store_folder, suite)  # its model embeds in fp32, as it did before
    for name in LENGTHS:
        qrels = [line.split("\t") for line in (suite / name / "qrels" / "test.tsv").read_text().splitlines()[1:]]
        judged = [ir_measures.Qrel(query, document, int(grade)) for query, document, grade in qrels]
        rankings = {
            system: rank_by_hand(suite / name, str(model), str(teacher_folder))
            for system, model in (("teacher", teacher_folder), ("student", run_folder / "student"))
        }
        for system, ranking in rankings.items():
            run = [ir_measures.ScoredDoc(query, document, -rank) for query, ids in ranking.items() for rank, document in enumerate(ids)]
            expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, run)[ir_measures.nDCG @ 10]
            assert results.collections[name]["systems"][system]["ndcg@10"] == pytest.approx(expected, abs=1e-6)
        shared = [len({*rankings["teacher"][query][:10]} & {*rankings["student"][query][:10]}) / 10 for query in rankings["teacher"]]
        assert results.collections[name]["agreement"]["overlap@10"] == pytest.approx(np.mean(shared), abs=1e-9)


def test_means_count_each_collection_alike(results):
    kept = [part["retention"]["ndcg@10"]["value"] for part in results.collections.values()]
    assert results.main_retention.value == pytest.approx(np.mean(kept))
    assert results.main_retention.low < results.main_retention.value < results.main_retention.high


def test_overlaps_of_few_and_many_queries_count_alike(suite, run_folder, teacher_folder, tmp_path):
    few = shutil.copytree(suite / "north", tmp_path / "few")
    for file, lines in ((few / "queries.jsonl", 3), (few / "qrels" / "test.tsv", 8)):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:lines]))
    results = evaluate_suite(run_folder / "student", teacher_folder, [few, suite / "south"])
    found = [part["agreement"]["overlap@10"] for part in results.collections.values()]
    assert found[0] != found[1] and results.agreement.value == pytest.approx(np.mean(found))


def test_lengths_are_told_apart(results):
    assert list(results.values["lengths"]) == ["1-8", "17-32", "33-64"]
    assert sum(group["queries"] for group in results.values["lengths"].values()) == 2 * QUERIES
    short = results.values["lengths"]["1-8"]
    assert short["retention"]["ndcg@10"]["value"] == pytest.approx(results.collections["north"]["retention"]["ndcg@10"]["value"])
    assert "kept of nDCG@10 by words in the query" not in repr(results)  # but one group has 20 judged queries


def test_lengths_of_enough_queries_are_said(results):
    enough = {name: {**group, "judged_queries": 20} for name, group in results.values["lengths"].items()}
    assert "kept of nDCG@10 by words in the query" in repr(SuiteResults({**results.values, "lengths": enough}))


def test_a_teacher_embeds_once(results, suite, run_folder, teacher_folder, monkeypatch):
    monkeypatch.setattr("distill.teachers.local.LocalTeacher.embed", lambda *_: pytest.fail("the cache has these vectors"))
    again = evaluate_suite(run_folder / "student", str(teacher_folder), [suite / "south", suite / "north"])
    assert again.collections == results.collections


def test_other_queries_of_the_same_documents_are_embedded_again(run_folder, teacher_folder, tmp_path):
    first = write_collection(tmp_path / "a" / "east", (3, 7), seed=7)
    second = shutil.copytree(first, tmp_path / "b" / "east")
    queries = [json.loads(line) for line in (first / "queries.jsonl").read_text().splitlines()]
    moved = [{**query, "text": other["text"]} for query, other in zip(queries, queries[1:] + queries[:1], strict=True)]
    (second / "queries.jsonl").write_text("".join(f"{json.dumps(query)}\n" for query in moved))
    one, other = (evaluate_suite(run_folder / "student", teacher_folder, folder).collections["east"] for folder in (first, second))
    assert one["systems"]["teacher"] != other["systems"]["teacher"]
    assert one["agreement"] == other["agreement"]  # the same queries under other ids


def test_the_teacher_is_named_as_it_was_now(suite, run_folder, teacher_folder, tmp_path):
    elsewhere = shutil.copytree(teacher_folder, tmp_path / "elsewhere")
    for folder in (teacher_folder, elsewhere):
        provenance = evaluate_suite(run_folder / "student", folder, suite).values["provenance"]
        assert provenance["teacher"]["name"] == str(folder)


def test_every_kind_of_teacher_and_student(results, suite, run_folder, teacher_folder):
    teacher, student = load_towers(str(teacher_folder)), load_towers(str(run_folder / "student"))
    assert evaluate_suite(student.query, teacher, suite).collections == results.collections
    functions = evaluate_suite(
        lambda texts: student.query.encode(texts, "query"), lambda texts: teacher.query.encode(texts, "query"), suite
    )
    assert functions.main_retention.value == pytest.approx(results.main_retention.value, abs=0.02)  # in fp32


def test_numbers_that_meet_by_chance_are_no_own_documents(tmp_path, run_folder, teacher_folder, caplog):
    folder = write_collection(tmp_path / "numbered", (3, 7), seed=0, names=("", ""))
    named = evaluate_suite(run_folder / "student", teacher_folder, write_collection(tmp_path / "named", (3, 7), seed=0))
    numbered = evaluate_suite(run_folder / "student", teacher_folder, folder)
    assert numbered.retention == named.retention and "own id" not in caplog.text
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    queries = [{"_id": row["_id"], "text": row["text"]} for row in corpus[:QUERIES]]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    assert [source.keep_own_documents for source in open_collections(folder).values()] == [False]
    evaluate_suite(run_folder / "student", teacher_folder, folder)
    assert "the document with the query's own id is left out for" in caplog.text


def test_folders_among_collections_that_are_none_are_named(suite, tmp_path, caplog):
    shutil.copytree(suite, tmp_path / "suite")
    write_collection(tmp_path / "suite" / "forums" / "east", (3, 7), seed=3)
    assert list(open_collections(tmp_path / "suite")) == list(LENGTHS)
    assert "left out, as no queries.jsonl is in them: forums: name folders of these too" in caplog.text
    assert list(open_collections([tmp_path / "suite", tmp_path / "suite" / "forums"])) == [*LENGTHS, "east"]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_folders_that_are_no_collections_are_refused(name, tmp_path, run_folder, teacher_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=f"{name}: n"):
        evaluate_suite(run_folder / "student", teacher_folder, tmp_path / name)


def test_what_cannot_be_measured_is_refused(suite, tmp_path, run_folder, teacher_folder, source_root):
    with pytest.raises(BadInput, match="two collections are called north"):
        evaluate_suite(run_folder / "student", teacher_folder, [suite, suite / "north"])
    with pytest.raises(BadInput, match="name the model, not vectors"):
        evaluate_suite(run_folder / "student", (np.zeros((2, 2)), np.zeros((2, 2))), suite)
    folder = write_collection(tmp_path / "unjudged", (3, 7), seed=0)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td1\t0\n")
    with pytest.raises(BadInput, match="unjudged"):
        evaluate_suite(run_folder / "student", teacher_folder, folder)
    vectors = np.zeros((12, 32), np.float32)
    with pytest.raises(BadInput, match="suite: needs a student that is a model"):
        evaluate(vectors, teacher_folder, source_root, suite=[str(suite)])


def test_judgments_of_other_documents_are_refused_before_anything_is_embedded(run_folder, teacher_folder, tmp_path, monkeypatch):
    good, bad = (write_collection(tmp_path / name, (3, 7), seed=0) for name in ("a", "b"))
    (bad / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\telsewhere\t1\n")
    monkeypatch.setattr("distill.teachers.local.LocalTeacher.embed", lambda *_: pytest.fail("the second collection cannot be judged"))
    with pytest.raises(BadInput, match="none of its documents is known: 'elsewhere' is judged"):
        evaluate_suite(run_folder / "student", teacher_folder, [good, bad])


def test_a_relative_folder_that_chose_the_checkpoint_is_known_from_anywhere(suite, monkeypatch):
    monkeypatch.chdir(suite)
    assert with_absolute_paths({"data": {"dev_suite": ["north"]}}) == {"data": {"dev_suite": [str(suite / "north")]}}


def test_collections_that_chose_the_checkpoint_are_named(suite, run_folder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("distill.evaluation.costs.measure_query_latency", functools.partial(measure_query_latency, rounds=2, warm_up=1))
    run = shutil.copytree(run_folder, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["dev_suite"] = [str(suite / "north")]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    evaluate_run(run, suite=[str(suite)])
    assert "suite: north: data.dev_suite chose the checkpoint by them" in caplog.text


def test_home_and_abroad_in_one_verdict(results, suite, run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.evaluation.costs.measure_query_latency", functools.partial(measure_query_latency, rounds=2, warm_up=1))
    both = evaluate_run(run_folder, out=tmp_path / "results.json", suite=[str(suite)])
    assert both.suite is not None and both.suite.collections.keys() == results.collections.keys()
    assert "; abroad " in both.verdict and "of nDCG@10" in both.verdict
    assert json.loads((tmp_path / "results.json").read_text())["suite"]["collections"].keys() == {*LENGTHS}
    assert "mean of 2" in repr(both)


def test_the_report_has_a_chart_of_both(suite, run_folder, teacher_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("distill.evaluation.costs.measure_query_latency", functools.partial(measure_query_latency, rounds=2, warm_up=1))
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    evaluate_run(run, suite=[str(suite)])
    evaluate_suite(run_folder / "student", teacher_folder, suite).save(run / "results-abroad.json")  # has no texts at home
    page = report([str(run)]).path.read_text()
    assert "Kept nDCG@10 at home and abroad" in page and "Kept nDCG@10 abroad by query length" in page and "north (n=25)" in page


def test_the_verb_measures_without_a_source(results, suite, run_folder, teacher_folder, tmp_path, capsys):
    models = ["--student", run_folder / "student", "--teacher", teacher_folder]
    folders = ["--suite", suite / "north", suite / "south"]
    assert distill("evaluate", *models, *folders, "--out", tmp_path / "suite.json", "--at_least", "1.9") == 1
    printed = capsys.readouterr().out
    assert "is below --at_least 1.9" in printed and "mean of 2" in printed
    saved = json.loads((tmp_path / "suite.json").read_text())["suite"]
    assert saved["retention"] == results.values["retention"]


def test_damaged_vectors_in_the_cache_are_made_again(tmp_path, run_folder, teacher_folder, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    folder = write_collection(tmp_path / "east", (3, 7), seed=3)
    before = evaluate_suite(run_folder / "student", teacher_folder, folder)
    for shard in (tmp_path / "cache").glob("suite/*/documents/00000.npy"):
        with open(shard, "r+b") as file:
            file.seek(-900, 2)
            file.write(bytes(800))
    assert evaluate_suite(run_folder / "student", teacher_folder, folder).collections == before.collections


def test_a_collection_without_judgments_says_so(tmp_path, run_folder, teacher_folder):
    (tmp_path / "ms").mkdir()
    (tmp_path / "ms" / "collection.tsv").write_text("d1\triver\nd2\tocean\n")
    (tmp_path / "ms" / "queries.test.tsv").write_text("q1\told river\n")
    with pytest.raises(BadInput, match="ms: no query of test is judged"):
        evaluate_suite(run_folder / "student", teacher_folder, tmp_path / "ms")


def test_options_of_a_source_are_refused_without_one(suite, run_folder, teacher_folder, capsys):
    models = ["--student", run_folder / "student", "--teacher", teacher_folder, "--suite", suite]
    assert distill("evaluate", *models, "--documents", "student") == 2
    assert "are of a --source" in capsys.readouterr().err
