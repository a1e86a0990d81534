"""Collections of other domains during training: the figures of an evaluation, the best checkpoint by the mean, on any number of ranks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from collections_of_words import write_collection
from commands import distill, on_ranks, train_arguments

from distill.callbacks.run_log import read_lines
from distill.data.datamodule import RetrievalData
from distill.encoders.students import StudentFromTeacher
from distill.evaluation.suite import evaluate_suite
from distill.losses import OneHot
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.run import train
from distill.texts.sources import MsMarcoTsv
from distill.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    for seed, (name, lengths) in enumerate({"north": (3, 7), "south": (20, 40)}.items()):
        write_collection(folder / name, lengths, seed)
    return folder


@pytest.fixture(scope="module")
def trained(suite: Path, source_root: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert distill(*arguments(suite, source_root, store_folder, out)) == 0
    return out


def arguments(suite: Path, source: Path, store: Path, out: Path, *more: Any) -> list[Any]:
    return train_arguments(source, store, out, "--data.dev_suite", f"[{suite}]", *more)


def read_dev(run: Path) -> list[dict[str, float]]:
    return [line for line in read_lines(run / "metrics.jsonl") if "dev/overlap@10" in line]


def test_the_figures_are_those_of_an_evaluation(trained, suite, store_folder):
    best = max(read_dev(trained), key=lambda line: line["dev/mean_overlap@10"])
    results = evaluate_suite(RunFolder(trained).student, store_folder, suite)
    for name, part in results.collections.items():
        assert best[f"dev/{name}/overlap@10"] == pytest.approx(part["agreement"]["overlap@10"])
        assert best[f"dev/{name}/retention_ndcg@10"] == pytest.approx(part["retention"]["ndcg@10"]["value"])
    assert best["dev/abroad_overlap@10"] == pytest.approx(results.agreement.value)
    assert best["dev/abroad_retention_ndcg@10"] == pytest.approx(results.main_retention.value)
    overlaps = [best["dev/overlap@10"], best["dev/north/overlap@10"], best["dev/south/overlap@10"]]
    assert best["dev/mean_overlap@10"] == pytest.approx(sum(overlaps) / 3)


def test_a_student_that_learns_from_labels_is_chosen_by_what_it_keeps_at_home_and_abroad(suite, source_root, store_folder, tmp_path):
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), dev_suite=[str(suite)], candidates=2)
    module = StudentModule(StudentFromTeacher(1), {"labels": OneHot()})
    run = train(module, data, tmp_path / "run", max_epochs=1, accelerator="cpu")
    assert module.best_by == "mean_retention_ndcg@10"
    [line] = read_dev(run.path)
    kept = [line[f"dev/{place}retention_ndcg@10"] for place in ("", "north/", "south/")]
    assert line["dev/mean_retention_ndcg@10"] == pytest.approx(sum(kept) / 3)


def test_a_collection_on_which_the_teacher_finds_nothing_is_refused_before_a_step(source_root, store_folder, tmp_path, capsys, monkeypatch):
    folder = write_collection(tmp_path / "suite" / "nothing", (3, 7), seed=0)
    corpus = (folder / "corpus.jsonl").read_text()
    (folder / "corpus.jsonl").write_text(corpus + '\n{"_id": "empty", "text": "zz"}')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tempty\t1\n")
    monkeypatch.setattr(StudentModule, "training_step", lambda *_: pytest.fail("a step was trained"))
    assert distill(*arguments(folder.parent, source_root, store_folder, tmp_path / "out")) == 2
    assert "data.dev_suite: nothing: the teacher's nDCG@10 is 0" in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()  # the folder is free for other collections


def test_two_ranks_measure_what_one_does(trained, suite, source_root, store_folder, tmp_path):
    more = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8]
    done = on_ranks(*arguments(suite, source_root, store_folder, tmp_path / "two", *more))
    assert done.returncode == 0, done.stderr
    for one, two in zip(read_dev(trained), read_dev(tmp_path / "two"), strict=True):
        for name, value in one.items():
            if name.startswith("dev/") and name != "dev/seconds":
                assert two[name] == pytest.approx(value, abs=2e-3), name


def test_it_can_be_watched(suite, source_root, store_folder, tmp_path, capsys):
    stop = json.dumps([{"class_path": "EarlyStopping", "init_args": {"monitor": "dev/south/overlap", "mode": "max"}}])
    assert distill(*arguments(suite, source_root, store_folder, tmp_path / "out", "--trainer.callbacks", stop)) == 2
    assert "did you mean dev/south/overlap@10?" in capsys.readouterr().err


def test_what_cannot_be_measured_is_refused(suite, source_root, store_folder, tmp_path, capsys):
    own = ["--model.documents", "shared", "--data.candidates", 2, "--model.losses", '{"d": {"class_path": "DocumentMatching"}}']
    assert distill(*arguments(suite, source_root, store_folder, tmp_path / "out", *own)) == 2
    assert "data.dev_suite: is for students that inherit the teacher's documents" in capsys.readouterr().err
    assert distill(*arguments(tmp_path / "nothing", source_root, store_folder, tmp_path / "out")) == 2
    assert "data.dev_suite:" in (said := capsys.readouterr().err) and "nothing: no such folder" in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadInput, match=r"data.dev_suite: data/watched: one or more in a list: give \['data/watched'\]"):
        RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), dev_suite="data/watched")
    with pytest.raises(BadInput, match=r"data.queries: more.tsv: one or more in a list"):
        RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), queries="more.tsv")


def test_a_run_goes_on_by_the_same_judgments_alone(trained, suite, source_root, store_folder, tmp_path, capsys):
    run, watched = shutil.copytree(trained, tmp_path / "run"), shutil.copytree(suite, tmp_path / "suite")
    settings = (run / "config.yaml").read_text().replace(str(suite), str(watched))
    (run / "config.yaml").write_text(settings)
    record = (run / "run.json").read_text().replace(str(suite), str(watched))
    (run / "run.json").write_text(record)
    again = arguments(watched, source_root, store_folder, run)
    assert distill(*again) == 0
    qrels = watched / "north" / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text().replace("\t1\n", "\t2\n", 1))
    assert distill(*again) == 2
    assert "vectors.north, queries and judgments was" in capsys.readouterr().err
