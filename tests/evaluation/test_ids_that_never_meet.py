"""Judgments and run files of other texts are refused before anything is computed, and said in one line where a part is of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import distill, teach_arguments, train_arguments

Files = dict[str, str]
SPLITS = ("train", "dev", "test")


@pytest.fixture
def texts(tmp_path: Path, source_root: Path) -> Path:
    return Path(shutil.copytree(source_root, tmp_path / "texts"))


def rewrite(path: Path, *changes: tuple[str, str]) -> None:
    content = path.read_text()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    path.write_text(content)


def evaluate(run: Path, texts: Path, store: Path, out: Path, *more: Any) -> int:
    return distill("evaluate", run, "--source", "MsMarcoTsv", "--source.root", texts, "--store", store, "--out", out, *more)


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    assert distill(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


OTHER_IDS = {
    "prefix": (("\td", "\tdoc-"),),
    "upper case": (("\td", "\tD"),),
    "zeros": (("\td", "\td0"),),
    "floats": (("\t1\n", ".0\t1\n"),),
    "an extra mark": (("\td", "\t\ufeffd"),),
}


@pytest.mark.parametrize("changes", OTHER_IDS.values(), ids=OTHER_IDS)
def test_judgments_of_none_of_the_documents(changes, run_folder, texts, store_folder, tmp_path, capsys) -> None:
    rewrite(texts / "qrels.test.tsv", *changes)
    assert evaluate(run_folder, texts, store_folder, tmp_path / "out" / "results.json") == 2
    message = capsys.readouterr().err
    assert "qrels.test.tsv: none of its documents is known: " in message
    assert "is judged, where" not in message and "'d0' is a document: give the same ids in both" in message
    assert message.count("\n") == 1 and not (tmp_path / "out").exists()


def test_columns_that_changed_places(run_folder, texts, store_folder, tmp_path, capsys) -> None:
    lines = [line.split("\t") for line in (texts / "qrels.test.tsv").read_text().splitlines()]
    (texts / "qrels.test.tsv").write_text("".join(f"{document}\t0\t{query}\t{grade}\n" for query, _, document, grade in lines))
    assert evaluate(run_folder, texts, store_folder, tmp_path / "results.json") == 2
    assert "not in the queries of" in (message := capsys.readouterr().err) and "where 'test0' is a query" in message


@pytest.mark.parametrize("split", ["dev", "train"])
def test_a_training_on_judgments_of_other_documents_takes_no_folder(split, texts, store_folder, tmp_path, capsys) -> None:
    rewrite(texts / f"qrels.{split}.tsv", ("\td", "\tdoc"))
    more = ["--data.candidates", 4]
    message = refused(capsys, *train_arguments(texts, store_folder, tmp_path / "run", *more))
    assert f"qrels.{split}.tsv: none of its documents is known: 'doc0' is judged, 'd0' is a document" in message
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_labels_that_are_not_read_may_be_of_other_documents(texts, store_folder, tmp_path) -> None:
    """A student that learns from vectors alone reads no judgments of its training queries."""
    rewrite(texts / "qrels.train.tsv", ("\td", "\tdoc"))
    assert distill(*train_arguments(texts, store_folder, tmp_path / "run", "--trainer.max_epochs", 1)) == 0


@pytest.mark.parametrize("split", ["dev", "train"])
def test_mine_and_teach_refuse_them_too(split, texts, store_folder, teacher_folder, tmp_path, capsys) -> None:
    rewrite(texts / f"qrels.{split}.tsv", ("\td", "\tdoc"))
    options = ["--source", "MsMarcoTsv", "--source.root", texts, "--split", split]
    expected = f"qrels.{split}.tsv: none of its documents is known: 'doc0' is judged, 'd0' is a document"
    assert expected in refused(capsys, "mine", "--store", store_folder, *options, "--out", tmp_path / "mined")
    assert expected in refused(capsys, *teach_arguments(texts, teacher_folder, tmp_path / "teacher"))
    assert not (tmp_path / "mined").exists()


def write_runs(run_folder: Path, store: Path, texts: Path, folder: Path) -> Files:
    """The teacher's ranking as it is, with a byte order mark, and with some of its lines of other texts."""
    assert evaluate(run_folder, texts, store, folder / "results-plain.json") == 0
    plain = (folder / "runs-plain" / "test" / "teacher.trec").read_text()
    kept = [line for line in plain.splitlines(keepends=True) if not line.startswith(("test0 ", "test1 "))]
    other = [line.replace(" Q0 d", " Q0 gone") if line.startswith("test2 ") else line for line in kept]
    contents = {"plain": plain, "bom": f"\ufeff{plain}", "part": "".join(other) + "dev7 Q0 d1 1 2.0 x\n"}
    paths = {name: folder / f"{name}.trec" for name in contents}
    for name, content in contents.items():
        paths[name].write_text(content)
    return {name: str(path) for name, path in paths.items()}


def test_what_is_of_other_texts_is_counted(run_folder, texts, store_folder, tmp_path, capsys) -> None:
    judgments = (texts / "qrels.test.tsv").read_text()
    first = judgments.splitlines()[0].split("\t")
    (texts / "qrels.test.tsv").write_text(f"{judgments}{first[0]}\t0\tnowhere\t1\n")
    files = write_runs(run_folder, store_folder, texts, tmp_path)
    capsys.readouterr()
    assert evaluate(run_folder, texts, store_folder, tmp_path / "results-x.json", "--baselines", json.dumps(files)) == 0
    printed = capsys.readouterr().out
    judged = len({line.split("\t")[2] for line in judgments.splitlines()}) + 1
    assert f"qrels.test.tsv: 1 of {judged} judged documents are unknown, 'nowhere' for one: no system can find them\n" in printed
    lines = (tmp_path / "part.trec").read_text().splitlines()
    gone, total = sum("gone" in line for line in lines), sum(line.startswith("test") for line in lines)
    counts = "2 of 12 queries are not in it and count as found nothing; 1 of its 11 queries are not asked here"
    assert f"part.trec: {counts}; {gone} of {total} ranked documents are not in the corpus\n" in printed
    assert printed.count(".trec: ") == 1
    systems = json.loads((tmp_path / "results-x.json").read_text())["systems"]
    metrics = ("mrr@10", "ndcg@10", "recall@100")
    assert [systems["bom"][name] for name in metrics] == [systems["plain"][name] for name in metrics]
    assert [systems["teacher"][name] for name in metrics] == pytest.approx([systems["plain"][name] for name in metrics], abs=1e-9)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dev0 Q0 d1 1 2.0 x", "ranks none of these queries: 'dev0' is a query there, 'test0' here: give a run of this split"),
        ("test0 Q0 7 1 2.0 x", "none of its documents is in the corpus: '7' is ranked, 'd0' is a document: give a run of these texts"),
        ("", "ranks none of these queries: it is empty, 'test0' here: give a run of this split"),
    ],
)
def test_runs_of_other_texts(line, message, run_folder, texts, store_folder, tmp_path, capsys) -> None:
    (tmp_path / "other.trec").write_text(f"{line}\n")
    assert evaluate(run_folder, texts, store_folder, tmp_path / "results-x.json", "--baselines", f"{{o: {tmp_path}/other.trec}}") == 2
    assert capsys.readouterr().err.endswith(f"other.trec: {message}\n")
    assert not (tmp_path / "results-x.json").exists()


def test_a_teacher_that_finds_nothing(run_folder, texts, store_folder, tmp_path, capsys) -> None:
    rewrite(texts / "qrels.test.tsv", ("\t1\n", "\t0\n"))
    assert evaluate(run_folder, texts, store_folder, tmp_path / "results-x.json") == 2
    message = capsys.readouterr().err
    assert "the teacher scores 0 on every query, so there is nothing to retain: do the judgments belong to these queries" in message
    assert not (tmp_path / "results-x.json").exists()


def test_training_queries_that_another_split_asks_are_the_cause(texts, store_folder, teacher_folder, tmp_path, capsys) -> None:
    from distill.teachers.encode import encode
    from distill.texts.sources import MsMarcoTsv

    lines = (texts / "queries.dev.tsv").read_text().splitlines()
    same = [f"train{i}\t  {line.split(chr(9))[1].upper()} \n" for i, line in enumerate(lines)]
    (texts / "queries.train.tsv").write_text("".join(same))
    (texts / "qrels.train.tsv").write_text("".join(f"train{i}\t0\td{i}\t1\n" for i in range(len(lines))))
    encode(str(teacher_folder), MsMarcoTsv(str(texts)), str(tmp_path / "store"), precision="fp32")
    message = refused(capsys, *train_arguments(texts, tmp_path / "store", tmp_path / "run"))
    assert "as 12 more of train are left out, which another split asks too" in message
    message = refused(capsys, *teach_arguments(texts, teacher_folder, tmp_path / "teacher"))
    assert "no query of it has a relevant document in the corpus, as 12 more of train are left out" in message


def test_ids_with_white_space_end_before_the_first_vector(texts, teacher_folder, tmp_path, capsys) -> None:
    source = ["--source", "MsMarcoTsv", "--source.root", texts]
    for name, old, new, line in (("collection.tsv", "d7\t", "wiki/Page 7\t", 8), ("queries.dev.tsv", "dev3\t", "dev\u00a03\t", 4)):
        before = (texts / name).read_text()
        rewrite(texts / name, (old, new))
        message = refused(capsys, "encode", "--teacher", teacher_folder, *source, "--out", tmp_path / "store")
        assert f"{name} line {line}: the id {new[:-1]!r} has white space, which separates the columns of run files" in message
        assert not (tmp_path / "store").exists()
        (texts / name).write_text(before)


def test_imported_ids_with_white_space_are_named(tmp_path, capsys) -> None:
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "ids.txt").write_text("\ufeffa\nb c\nd\n")
    options = ["import", "--vectors", tmp_path / "v.npy", "--ids", tmp_path / "ids.txt", "--name", "x", "--out", tmp_path / "store"]
    assert "ids.txt: number 2: the id 'b c' has white space" in refused(capsys, *options)
    assert not (tmp_path / "store").exists()
    (tmp_path / "ids.txt").write_text("\ufeffa\nb\nd\n")
    assert distill(*options) == 0
