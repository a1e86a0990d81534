"""`distill rerank`: every pair by itself through the teacher, metrics checked against trec_eval's, the run file as it is ranked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import distill
from conftest import make_teacher
from families import make_cross

from distill.encoders.cross_folder import is_cross_encoder
from distill.encoders.folder import load_encoder
from distill.encoders.towers import Towers, load_towers
from distill.files.atomic import read_json
from distill.files.fingerprints import file_fingerprint
from distill.metrics.trec_runs import read_trec

ir_measures = pytest.importorskip("ir_measures")

KINDS = ["dual_pooling", "cls", "dual encoder", "two towers"]


@pytest.fixture(scope="module")
def first_stage(source_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 15 documents a query, of 5 for one and none for another."""
    path = tmp_path_factory.mktemp("first") / "bm25.trec"
    counts = {f"test{i}": 15 for i in range(12)} | {"test3": 5, "test4": 0}
    lines = [(q, f"d{(7 * int(q[4:]) + 11 * j) % 60}", j) for q, count in counts.items() for j in range(1, count + 1)]
    path.write_text("".join(f"{query} Q0 {document} {j} {100 - j} bm25\n" for query, document, j in lines))
    return path


@pytest.fixture(scope="module")
def teachers(teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("teachers")
    for head in ("dual_pooling", "cls"):
        make_cross("bert", head).save_pretrained(root / head)
    other = load_encoder(str(make_teacher(root / "other", seed=3)))
    Towers(load_encoder(str(teacher_folder)), other).save_pretrained(root / "two towers")
    return {"dual encoder": teacher_folder} | {name: root / name for name in KINDS if name != "dual encoder"}


def arguments(source: Path, teacher: Path, first_stage: Path, out: Path, *more) -> list:
    texts = ["--source", "MsMarcoTsv", "--source.root", source, "--first_stage", first_stage]
    return ["rerank", "--teacher", teacher, *texts, "--precision", "fp32", "--out", out, *more]


def texts(path: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in path.read_text().splitlines())


def score(kind: str, teacher: Path, query: str, document: str) -> float:
    """One pair, by itself."""
    if kind in ("dual_pooling", "cls"):
        return float(make_cross("bert", kind).score([query], [document]).scores[0])
    towers = load_towers(str(teacher))
    return float(towers.encode([query], "query")[0] @ towers.encode([document], "document")[0])


@pytest.mark.parametrize("kind", KINDS)
def test_reranked_by_every_kind_of_teacher(kind, source_root, first_stage, teachers, tmp_path):
    assert is_cross_encoder(teachers[kind]) == (kind in ("dual_pooling", "cls"))
    assert distill(*arguments(source_root, teachers[kind], first_stage, tmp_path / "out", "--top", 10)) == 0
    results = read_json(tmp_path / "out" / "results.json", "results")
    before, after = read_trec(first_stage), read_trec(tmp_path / "out" / "runs" / "test" / "reranked.trec")
    assert set(after) == {query for query in before if before[query]}
    queries, documents = texts(source_root / "queries.test.tsv"), texts(source_root / "collection.tsv")
    for query in list(after)[:2]:
        assert [id_ for id_, _ in after[query]] != [id_ for id_, _ in before[query][: len(after[query])]]
        for document, found in after[query]:
            assert found == pytest.approx(score(kind, teachers[kind], queries[query], documents[document]), abs=1e-4)
    for query, ranked in after.items():
        assert {id_ for id_, _ in ranked} == {id_ for id_, _ in before[query][:10]}
        assert [value for _, value in ranked] == sorted((value for _, value in ranked), reverse=True)

    qrels = list(ir_measures.read_trec_qrels(str(source_root / "qrels.test.tsv")))
    measures = {"mrr@10": ir_measures.parse_measure("RR@10"), "ndcg@10": ir_measures.parse_measure("nDCG@10")}
    for name, run in (("first_stage", {q: before[q][:10] for q in before}), ("reranked", after)):
        scored = {query: {id_: -float(i) for i, (id_, _) in enumerate(ranked)} for query, ranked in run.items()}
        expected = ir_measures.calc_aggregate(measures.values(), qrels, scored)
        for metric, measure in measures.items():
            assert results["systems"][name][metric] == pytest.approx(expected[measure], abs=1e-6)
    gain = results["systems"]["reranked"]["mrr@10"] - results["systems"]["first_stage"]["mrr@10"]
    low, high = results["difference"]["mrr@10"]["ci95"]
    assert results["difference"]["mrr@10"]["value"] == pytest.approx(gain) and low <= gain <= high
    assert (results["queries"], results["judged_queries"], results["candidates"]["top"]) == (12, 12, 10)
    given = {"name": str(first_stage), "fingerprint": file_fingerprint(first_stage)}
    assert results["provenance"]["first_stage"] == given


def test_a_stores_top_documents_are_a_first_stage(source_root, store_folder, teacher_folder, tmp_path, capsys):
    """A dual encoder re-ranks its own retrieval into the order it was in."""
    assert distill(*arguments(source_root, teacher_folder, store_folder, tmp_path / "out")) == 0
    results = read_json(tmp_path / "out" / "results.json", "results")
    assert results["difference"]["ndcg@10"]["value"] == pytest.approx(0, abs=5e-3)  # stored vectors are fp16
    first, teacher = (results["provenance"][key]["fingerprint"] for key in ("first_stage", "teacher"))
    assert first == teacher == load_towers(str(teacher_folder)).fingerprint()
    printed = capsys.readouterr().out
    assert f"first_stage {results['systems']['first_stage']['mrr@10']:>10.4f}" in printed and "recall of the 20 candidates" in printed


def test_without_judgments_only_the_run_is_written(source_root, first_stage, teachers, tmp_path):
    unlabelled = Path(shutil.copytree(source_root, tmp_path / "texts"))
    (unlabelled / "qrels.test.tsv").unlink()
    assert distill(*arguments(unlabelled, teachers["cls"], first_stage, tmp_path / "out")) == 0
    assert read_json(tmp_path / "out" / "results.json", "results")["systems"] == {}
    assert (tmp_path / "out" / "runs" / "test" / "reranked.trec").exists()


def test_the_results_of_an_evaluation_are_not_replaced(source_root, first_stage, teachers, tmp_path, capsys):
    (tmp_path / "results.json").write_text('{"provenance": {}}')
    assert distill(*arguments(source_root, teachers["cls"], first_stage, tmp_path)) == 2
    assert "has the results of an evaluation" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == '{"provenance": {}}'


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--top", 0], "top is 0"),
        (["--first_stage", "nowhere.trec"], "nowhere.trec: not a readable run file"),
        (["--teacher", "nowhere"], "nowhere: no such folder"),
        (["--split", "tset"], "no split 'tset'"),
    ],
    ids=str,
)
def test_bad_input_is_refused(more, words, source_root, first_stage, teachers, tmp_path, capsys):
    assert distill(*arguments(source_root, teachers["cls"], first_stage, tmp_path / "out", *more)) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_of_other_texts_is_refused(source_root, teachers, tmp_path, capsys):
    for line, words in (("test0 Q0 d999 1 1 x", "'d999' is not in the corpus"), ("q Q0 d1 1 1 x", "ranks none of these queries")):
        (tmp_path / "other.trec").write_text(line + "\n")
        assert distill(*arguments(source_root, teachers["cls"], tmp_path / "other.trec", tmp_path / "out")) == 2
        assert words in capsys.readouterr().err
