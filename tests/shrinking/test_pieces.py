"""Pieces of documents and of general texts, which a student learns from beside its queries."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from shrink_world import make_texts

import distill
from distill.records import BadInput
from distill.shrinking import general
from distill.shrinking.crops import make_pieces
from distill.shrinking.general import read_general
from distill.shrinking.request import Request
from distill.shrinking.texts import JobTexts, prepare_texts

QUERIES = make_texts(400, 9, seed=1)
GENERAL = [f"Unit {number} of measure number {number} is a quantity" for number in range(30)]


def write_documents(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps({'_id': f'd{i}', 'text': text})}\n" for i, text in enumerate(texts)))
    return path


def prepare(folder: Path, **given: object) -> tuple[JobTexts, list[str]]:
    """The texts of a job, and its pieces."""
    texts = prepare_texts(Request("a teacher", **{"queries": QUERIES, **given}), folder)
    path = folder / "pieces.jsonl"
    return texts, list(distill.Texts.open(path)) if path.exists() else []


def sort_words(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """The words of each text, in one order."""
    return {tuple(sorted(text.lower().split())) for text in texts}


def test_they_have_the_lengths_that_queries_elsewhere_may_have(tmp_path):
    documents = write_documents(tmp_path / "docs.jsonl", [" ".join(f"word{i}x{j}" for j in range(200)) for i in range(30)])
    texts, pieces = prepare(tmp_path / "texts", documents=str(documents))
    assert texts.summary["pieces"] == len(pieces) == len(set(pieces)) > 500
    lengths = np.array([len(piece.split()) for piece in pieces])
    assert lengths.min() == 3 and 120 < lengths.max() <= 160
    assert 0.2 < np.mean(lengths <= 12) < 0.6 and 0.1 < np.mean(lengths > 45) < 0.5
    assert tmp_path / "texts" / "pieces.jsonl" in texts.extra


def test_none_has_the_words_of_a_query_that_is_measured_on(tmp_path):
    """Each document is a query too."""
    texts, pieces = prepare(tmp_path / "texts", documents=QUERIES)
    for split in ("dev", "holdout"):
        assert sort_words(texts.source.queries(split)) and not sort_words(texts.source.queries(split)) & sort_words(pieces), split
    assert sort_words(texts.source.queries("train")) & sort_words(pieces)


def test_many_queries_get_pieces_and_no_crops(tmp_path):
    queries = [f"{text} {number}" for number, text in enumerate(make_texts(6000, 9, seed=7))]
    texts, pieces = prepare(tmp_path / "texts", queries=queries, documents=make_texts(20, 25, seed=2))
    assert [path.stem for path in texts.extra] == ["pieces"] and "crops" not in texts.summary and pieces


def test_queries_alone_have_none(tmp_path):
    texts, _ = prepare(tmp_path / "texts")
    assert texts.extra == () and "pieces" not in texts.summary


@pytest.mark.parametrize("documents", [None, make_texts(20, 25, seed=2)])
def test_general_texts_have_theirs(documents, tmp_path):
    """Beside the pieces of documents, and where there is no document."""
    (tmp_path / "general.csv").write_text("title,text\n" + "".join(f"{text[:7]},{text[7:]}\n" for text in GENERAL))
    _, pieces = prepare(tmp_path / "texts", documents=documents, general=str(tmp_path / "general.csv"))
    words = {word for text in GENERAL for word in text.lower().split()}
    of_general = [piece for piece in pieces if set(piece.lower().split()) <= words]
    assert len(of_general) > 50 and (len(of_general) < len(pieces)) == (documents is not None)
    first = pieces[: len(pieces) // 2]  # which a slow teacher keeps
    share = len(of_general) / len(pieces)
    assert len(set(first) & set(of_general)) / len(first) == pytest.approx(share, abs=0.1)


def test_general_texts_may_be_a_folder(tmp_path):
    for name, file in {"beir": "corpus.jsonl", "parts": "one.jsonl"}.items():
        write_documents(tmp_path / name / file, GENERAL)
        assert list(read_general(tmp_path / name)) == GENERAL, name
    (tmp_path / "tsv").mkdir()
    (tmp_path / "tsv" / "collection.tsv").write_text("".join(f"{i}\t{text}\n" for i, text in enumerate(GENERAL)))
    assert list(read_general(str(tmp_path / "tsv"))) == GENERAL


def test_of_many_general_texts_some_are_drawn(monkeypatch):
    monkeypatch.setattr(general, "MOST_TEXTS", 10)
    drawn = list(read_general(GENERAL))
    assert len(drawn) == 10 and set(drawn) < set(GENERAL) and drawn != GENERAL[:10]


def test_general_texts_of_a_hub_are_read_no_further_than_needed(monkeypatch):
    datasets = pytest.importorskip("datasets")
    read, asked = [], []

    def rows():
        for number in range(1000):
            read.append(number)
            yield {"_id": str(number), "title": "A river" if number == 0 else None, "text": f"flows {number}"}

    def load(*names, **options):
        asked.append((names, options))
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(general, "MOST_TEXTS", 20)
    monkeypatch.setattr(general, "SHUFFLED", 30)
    texts = list(read_general("owner/name-v1.5"))
    assert len(texts) == 20 and all("flows" in text for text in texts) and len(read) < 100
    assert texts != sorted(texts, key=lambda text: int(text.split()[-1]))
    assert asked == [(("owner/name-v1.5", "corpus"), {"split": "corpus", "revision": None, "streaming": True})]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nobody/nothing", "general: nobody/nothing: no such data set"),
        ("nothing.txt", "nothing.txt: no such file"),
        ("nowhere/nothing.csv", "nowhere/nothing.csv: no such file"),
        ([" "], "general: .*no text in it"),
        (np.zeros(3), "general: .* of type ndarray: give a file or a list of texts"),
    ],
)
def test_bad_general_texts_leave_no_folder(tmp_path, teacher_folder, given, message):
    if isinstance(given, str):
        pytest.importorskip("datasets")
    with pytest.raises(BadInput, match=message):
        distill.shrink(str(teacher_folder), queries=QUERIES, general=given, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_other_texts_are_another_input(tmp_path):
    """Another field of the same file, and another corpus in the same folder."""
    (tmp_path / "log.csv").write_text("query,title\na,b\n")
    write_documents(tmp_path / "beir" / "corpus.jsonl", GENERAL)
    given = {"queries": f"{tmp_path}/log.csv:query", "general": str(tmp_path / "beir")}
    before = Request("a teacher", **given).describe()
    assert Request("a teacher", **given).describe() == before
    assert Request("a teacher", **{**given, "queries": f"{tmp_path}/log.csv:title"}).describe()["queries"] != before["queries"]
    write_documents(tmp_path / "beir" / "corpus.jsonl", GENERAL[1:])
    assert Request("a teacher", **given).describe()["general"] != before["general"]


def test_pieces_of_a_script_without_spaces_are_pieces_too():
    """A document of 600 characters, whose twenty sentences end in a full stop of their own."""
    sentence = "莱茵河是欧洲的一条大河，它发源于瑞士的山中，流入北海。"  # noqa: RUF001
    first = [chr(ord("一") + number) for number in range(20)]
    document = "".join(character + sentence for character in first)
    pieces = make_pieces(distill.Texts.from_lists(["d"], [document]), [])
    assert len(pieces) > 10 and all(piece in document and 3 <= len(piece) <= 160 for piece in pieces)
    assert sum(piece[0] in first for piece in pieces) > len(pieces) / 3  # half begin where a sentence does


def test_pieces_of_a_script_with_spaces_are_whole_words():
    document = "  The river\n rises in the Alps.  It ends in the sea,\tfar away.  "
    for piece in make_pieces(distill.Texts.from_lists(["d"], [document]), []):
        assert f" {piece.lower()} " in f" {' '.join(document.lower().split())} "
