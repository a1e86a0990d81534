"""Numbers of texts: stated, or counted in files and folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.planning.amounts import divide_queries, measure_rows, parse_count, read_documents, read_query_sets
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv
from distill.texts.tables import Row


@pytest.mark.parametrize(
    ("given", "count"),
    [("8.8M", 8_800_000), ("500k", 500_000), ("1.5K", 1500), ("12", 12), (12, 12), ("", None), ("-3", None), ("8.8X", None), ("1e6", None)],
)
def test_numbers(given, count):
    assert parse_count(given) == count


def test_stated_numbers_have_the_ids_that_shrink_gives():
    """Documents are numbered from 0, so 1,000 of them have three digits; queries have hashes of twelve."""
    documents = read_documents("1k", tokens=12)
    assert (documents.count, documents.id_bytes, documents.is_stated) == (1000, 3, True)
    assert {len(text.split()) for text in documents.sample} == {10}
    train, dev, holdout = read_query_sets("500", tokens=9)
    assert [(part.name, part.count) for part in (train, dev, holdout)] == [
        ("queries-train", 425),
        ("queries-dev", 25),
        ("queries-holdout", 50),
    ]
    assert train.id_bytes == 12


def test_files_are_counted(tmp_path):
    path = tmp_path / "articles.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{'x' * i}", "title": "On", "text": f"rivers {i}"}) + "\n" for i in range(7)))
    amount = read_documents(str(path), tokens=84)
    assert (amount.count, amount.id_bytes, amount.is_stated) == (7, 7, False)
    assert amount.sample == tuple(f"On rivers {i}" for i in range(7))
    (tmp_path / "log.csv").write_text("id,query\n" + "".join(f"{i},find river {i}\n" for i in range(40)))
    assert [part.count for part in read_query_sets(f"{tmp_path / 'log.csv'}:query", tokens=9)] == [34, 2, 4]


def test_folders_are_counted_by_split(source_root):
    sets = read_query_sets(str(source_root), tokens=9)
    assert [part.name for part in sets] == ["queries-train", "queries-dev", "queries-test"]
    assert [part.count for part in sets] == [len(MsMarcoTsv(str(source_root)).queries(name)) for name in ("train", "dev", "test")]
    assert read_documents(MsMarcoTsv(str(source_root)), tokens=84).count == 60


def test_a_folder_of_documents_alone(tmp_path):
    (tmp_path / "collection.tsv").write_text("d1\tone river\nd2\ttwo rivers\n")
    assert read_documents(str(tmp_path), tokens=84).count == 2


def test_a_long_file_is_sampled(monkeypatch):
    monkeypatch.setattr("distill.planning.amounts.MOST_READ", 10)
    amount = measure_rows(Row(None, "", f"text {i}", "") for i in range(1001))
    assert (amount.count, amount.id_bytes, len(set(amount.sample))) == (1001, 4, 10)
    assert sum(int(text.split()[1]) > 500 for text in amount.sample) >= 2  # not the first ones alone


@pytest.mark.parametrize(
    ("read", "given", "message"),
    [
        (read_documents, "8.8X", "documents: '8.8X': neither a number, such as 500k or 8.8M, nor a file or a folder"),
        (read_documents, 0, "documents: 0: must be 1 or more"),
        (read_documents, [], "documents: there are none"),
        (read_query_sets, "nowhere.txt", "queries: 'nowhere.txt': neither a number"),
        (read_query_sets, 2, "queries: 2: too few to learn from, choose the epoch by and hold out: give 20 or more"),
    ],
)
def test_refusals(read, given, message):
    with pytest.raises(BadInput) as refused:
        read(given, 9)
    assert str(refused.value).startswith(message)


def test_a_folder_without_training_queries_is_refused(source_root, tmp_path):
    for name in ("collection.tsv", "queries.dev.tsv"):
        (tmp_path / name).write_bytes(Path(source_root, name).read_bytes())
    with pytest.raises(BadInput, match="no split train to learn from, there are dev: give a number or a file"):
        read_query_sets(str(tmp_path), 9)


def test_queries_are_divided_as_shrink_divides_them():
    """One in ten is held out, one in twenty chooses the epoch, but no more than 1,000 and 500."""
    amount = read_query_sets("500k", tokens=9)
    assert [part.count for part in amount] == [498_500, 500, 1000]
    assert sum(part.count for part in divide_queries(amount[0])) == 498_500
