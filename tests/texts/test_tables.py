import csv
import gzip
import json
import logging
import sys
import time

import pytest

from distill.files import parquet
from distill.records import BadInput
from distill.texts.tables import Row, read_queries, read_rows, write_documents
from distill.texts.texts import Texts

# what every kind of file below holds: a comma, a tab (not in TSV), double quotes, a line break in CSV, letters of many scripts
RECORDS = [
    {"id": "7", "title": "Rhine, the", "text": 'a "river", naïve 東京'},
    {"id": "8", "title": "", "text": "  spaces stay "},
    {"id": "9", "title": "Empty", "text": ""},
]
EXPECTED = [("7", "Rhine, the", 'a "river", naïve 東京'), ("8", "", "  spaces stay "), ("9", "Empty", "")]


def written(path, content):
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def json_lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def write_parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), path)
    return path


def write_records(path, records, delimiter=","):
    """Writes records of one kind of file, with the standard library's or pyarrow's own writers."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        return write_parquet(path, **{key: [record[key] for record in records] for key in records[0]})
    if name.endswith(".csv"):
        plain = path.with_name("plain")
        with open(plain, "w", encoding="utf-8-sig", newline="") as file:  # the mark and the line ends that spreadsheets write
            writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(records)
        return written(path, plain.read_bytes())
    if name.endswith(".tsv"):
        lines = ["\t".join(records[0]), *("\t".join(map(str, record.values())) for record in records)]
        return written(path, "\r\n".join(lines))
    return written(path, json_lines(records))


def parts(rows):
    return [(row.id, row.title, row.text) for row in rows]


def texts_of(path, *arguments, **options):
    return [row.text for row in read_rows(path, *arguments, **options)]


KINDS = ["a.tsv", "a.tsv.gz", "a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.ndjson", "a.json", "a.parquet"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_reads_the_same(tmp_path, name):
    assert parts(read_rows(write_records(tmp_path / name, RECORDS))) == EXPECTED


@pytest.mark.parametrize("name", KINDS)
def test_fields_are_named(tmp_path, name):
    renamed = [{"article_id": r["id"], "headline": r["title"], "body": r["text"], "text": "not this one"} for r in RECORDS]
    path = write_records(tmp_path / name, renamed)
    assert parts(read_rows(path, {"id": "article_id", "title": "headline", "text": "body"})) == EXPECTED
    assert parts(read_rows(f"{path}:body")) == [(None, "", text) for _, _, text in EXPECTED]
    with pytest.raises(BadInput, match=rf"{name}: no field 'abstract': there are article_id, headline, body, text$"):
        read_rows(path, {"text": "abstract"})
    with pytest.raises(BadInput, match=r"name one of the two"):
        read_rows(f"{path}:body", {"text": "headline"})


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_files_hold_a_text_a_line(tmp_path, name):
    rows = list(read_rows(written(tmp_path / name, "\ufeffone\r\n\n \ntext\ta tab\u2028and more\n")))
    assert rows == [
        Row(None, "", "one", f"{tmp_path / name} line 1"),
        Row(None, "", "text\ta tab\u2028and more", f"{tmp_path / name} line 4"),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1\tone\n\n2\ttwo\tand a tab\n", [("1", "", "one"), ("2", "", "two\tand a tab")]),
        ("one\ntwo\n", [(None, "", "one"), (None, "", "two")]),
        ("ID\tText\n1\tone\n", [("1", "", "one")]),
        ("docid\tlang\tcontents\n1\tde\tone\n", [("1", "", "one")]),
        ("text\none\n", [(None, "", "one")]),
    ],
    ids=["id and text", "texts", "header", "known among others", "one column with a header"],
)
def test_tsv_with_and_without_a_header(tmp_path, content, expected):
    assert parts(read_rows(written(tmp_path / "a.tsv", content))) == expected


def test_csv_has_line_breaks_in_values_and_names_the_line_where_a_row_begins(tmp_path):
    path = written(tmp_path / "a.csv", 'text,n\n"one\ntwo ""quoted""",1\r\n\r\n"three, four",2\n' + f"{'x' * 200_000},3\n")
    rows = list(read_rows(path))
    assert [row.text for row in rows] == ['one\ntwo "quoted"', "three, four", "x" * 200_000]
    assert [row.place for row in rows] == [f"{path} line {line}" for line in (2, 5, 6)]


def test_csv_of_spreadsheets_that_separate_by_semicolons(tmp_path):
    assert parts(read_rows(write_records(tmp_path / "a.csv", RECORDS, ";"))) == EXPECTED
    assert parts(read_rows(write_records(tmp_path / "b.csv", RECORDS, "\t"))) == EXPECTED
    (tmp_path / "c.csv").write_text("\n\nid;text\n1;one\n2;two\n")  # blank lines before the header
    rows = list(read_rows(tmp_path / "c.csv"))
    assert [(row.id, row.text, row.place.rsplit(" ", 1)[1]) for row in rows] == [("1", "one", "4"), ("2", "two", "5")]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.parquet"])
def test_the_likeliest_field_is_the_text_and_depends_on_the_kind(tmp_path, name):
    path = write_records(tmp_path / name, [{"qid": "1", "question": "q", "query": "p", "body": "b", "contents": "c"}])
    assert texts_of(path, kind="queries") == ["p"]
    assert [row.id for row in read_rows(path, kind="queries")] == ["1"]
    assert texts_of(path, kind="documents") == ["c"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_single_field_is_the_text(tmp_path, name):
    assert texts_of(write_records(tmp_path / name, [{"Suchanfrage": "eins"}, {"Suchanfrage": "zwei"}])) == ["eins", "zwei"]
    with pytest.raises(BadInput, match="which field is the text"):
        read_rows(write_records(tmp_path / name, [{"id": "1"}]))


def test_numbers_are_ids_and_a_null_is_no_title(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"_id": 7, "title": null, "text": "one"}\n{"_id": " 8 ", "text": "two"}\n')
    assert parts(read_rows(path)) == [("7", "", "one"), ("8", "", "two")]


def test_a_parquet_file_of_vectors_and_texts_is_read_without_its_vectors(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", id=[1, 2], text=["one", "two"], vector=[[0.5], [0.25]])
    wanted = []
    original = parquet.read_batches
    monkeypatch.setattr(parquet, "read_batches", lambda *arguments: wanted.append(arguments[2]) or original(*arguments))
    assert parts(read_rows(path)) == [("1", "", "one"), ("2", "", "two")]
    assert wanted == [["id", "text"]]


def test_a_folder_is_its_files_in_order(tmp_path):
    for name, text in (("part-1.jsonl", "two"), ("part-0.jsonl", "one"), ("_SUCCESS", ""), (".part-2.jsonl", "x")):
        written(tmp_path / name, json_lines([{"text": text}]))
    assert texts_of(tmp_path) == ["one", "two"]
    write_parquet(tmp_path / "a.parquet", text=["three"])
    with pytest.raises(BadInput, match=r"both \.parquet and \.jsonl"):
        read_rows(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no \.parquet and no \.jsonl file"):
        read_rows(tmp_path / "empty")


def test_lists_of_texts_and_of_mappings():
    assert list(read_rows(["one", "two"]))[1] == Row(None, "", "two", "documents[1]")
    assert parts(read_rows([{"id": 3, "title": "t", "text": "one"}])) == [("3", "t", "one")]
    with pytest.raises(BadInput, match=r"queries\[1\]: text is 5 of type int: give a string"):
        list(read_rows(["one", 5], kind="queries"))


def test_one_number_beside_a_text_is_a_query(tmp_path):
    (tmp_path / "a.tsv").write_text("1\t1984\n2\tanimal farm\n")
    assert list(read_queries(str(tmp_path / "a.tsv"))) == ["1984", "animal farm"]
    (tmp_path / "a.tsv").write_text("1\tanimal farm\n2\t1984\n")
    assert list(read_queries(str(tmp_path / "a.tsv"))) == ["animal farm", "1984"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.docx", "x", r"a\.docx: its ending tells no kind of file .*name it \.txt, \.tsv, \.csv, .*\.parquet"),
        ("a.parquet.gz", "x", r"a\.parquet\.gz: its ending"),
        ("a.txt", b"good\nna\xefve\n", r"a\.txt line 2: not UTF-8"),
        ("a.tsv", "id\ttext\n1\tone\n2\n", r"a\.tsv line 3: has 1 columns, not 2: expected id, text"),
        ("a.tsv", "one\n2\ttwo\n", r"a\.tsv line 2: has 2 columns, not 1"),
        ("a.tsv", "1\tx\tone\n", r"a\.tsv line 1: has 3 columns and no header"),
        ("a.tsv", "rhine\tclicks\nrhine river\t12\nbread\t7.5\n", r"a\.tsv: its second column, .* has numbers: write a first line"),
        ("a.csv", "text,n,text\nfirst,1,second\n", r"a\.csv: two columns are called 'text': rename one"),
        ("a.tsv", "text\ttext\nfirst\tsecond\n", r"a\.tsv: two columns are called 'text': rename one"),
        ("a.csv", "id,text\n1,one,two\n", r"a\.csv line 2: has 3 columns, not 2"),
        ("a.csv", 'id,text\n1,one\n2,"open\n', r"a\.csv line 3: not CSV .*close its quotes"),
        (
            "a.csv",
            "id,headline,words\n",
            r"a\.csv: which field is the text\? There are id, headline, words: name one, .*a\.csv:words",
        ),
        ("a.jsonl", '{"text": "one"}\n{"text": 5}\n', r"a\.jsonl line 2: text is 5 of type int: give a string"),
        ("a.jsonl", '{"text": "one"}\n{"body": "x"}\n', r"a\.jsonl line 2: no field 'text': there are body"),
        ("a.jsonl", '{"id": 1, "text": "one"}\n{"text": "x"}\n', r"a\.jsonl line 2: no field 'id': there are text"),
        ("a.jsonl", '{"id": 1.5, "text": "one"}\n', r"a\.jsonl line 1: id is 1\.5 of type float"),
        ("a.jsonl", '{"id": "", "text": "one"}\n', r"a\.jsonl line 1 has an empty id"),
        ("a.jsonl", '{"id": "a\\tb", "text": "one"}\n', r"a\.jsonl line 1: the id 'a\\tb' has a tab"),
        ("a.jsonl", '{"text": "one", "title": ["x"]}\n', r"a\.jsonl line 1: title is \['x'\] of type list"),
        ("a.jsonl", "\n{broken\n", r"a\.jsonl line 2: not valid JSON"),
        ("a.json", '["one", "two"]\n', r"a\.json line 1: no JSON object: expected a record on every line"),
        ("a.csv", "", r"a\.csv: nothing in it"),
        ("a.tsv", " \n", r"a\.tsv: nothing in it"),
        ("a.jsonl", "", r"a\.jsonl: nothing in it"),
        ("a.parquet", "no parquet", r"a\.parquet: not a"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=message):
        list(read_rows(path))


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"none\.csv: no such file"):
        read_rows(tmp_path / "none.csv")
    with pytest.raises(BadInput, match=r"none\.csv: no such file"):
        read_rows(f"{tmp_path}/none.csv:text")
    with pytest.raises(BadInput, match="how to bake: no such file"):
        read_queries("how to bake")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n" * 99)[:-9])
    with pytest.raises(BadInput, match=r"a\.txt\.gz: not a whole gzip file"):
        list(read_rows(tmp_path / "a.txt.gz"))
    with pytest.raises(BadInput, match="fields: 'body' is none of id, title, text"):
        read_rows(["one"], {"body": "x"})


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    written(tmp_path / "a.parquet", "x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"pip install '\.\[parquet\]' in a checkout of distill"):
        read_rows(tmp_path / "a.parquet")


def test_queries_are_read_once_each_and_counted(tmp_path, caplog):
    path = written(tmp_path / "log.csv", "n,query\n1,  one  river \n2,\n3,One River\n4,two\n5, \n6,TWO\n7,three\n")
    with caplog.at_level(logging.INFO, logger="distill"):
        queries = read_queries(f"{path}:query")
    assert list(queries) == ["one  river", "two", "three"]
    assert queries.name == "log"
    assert caplog.messages == ["log: 3 queries; left out: 2 empty ones and 2 repeats of a wording"]


def test_ids_of_wordings_stay_when_queries_are_added():
    few, more = read_queries(["one", "two"]), read_queries(["zero", "two", "one", "ONE "])
    assert dict(zip(few, few.ids, strict=True)).items() <= dict(zip(more, more.ids, strict=True)).items()
    assert all(len(id_) == 12 and int(id_, 16) >= 0 for id_ in more.ids)


def test_ids_of_a_file_are_kept_and_repeats_numbered(tmp_path):
    path = written(tmp_path / "q.tsv", "7\tone\n8\ttwo\n7\tthree\n9\tONE\n")
    queries = read_queries(path)
    assert dict(zip(queries.ids, queries, strict=True)) == {"7": "one", "8": "two", "7#2": "three"}
    path = written(tmp_path / "q.csv", "key,query\na,one\nb,two\n")
    assert list(read_queries(path, id_field="key").ids) == ["a", "b"]
    assert list(read_queries(path, text_field="key")) == ["a", "b"]


@pytest.mark.parametrize("given", [[], ["", "  "]], ids=str)
def test_no_usable_query_is_refused(given):
    with pytest.raises(BadInput, match="queries: no query in it"):
        read_queries(given)


def test_queries_are_set_aside():
    queries = read_queries([f"query {number}" for number in range(100)])
    rest, held_out = queries.split(holdout=10)
    assert len(rest) == 90 and len(held_out) == 10
    assert sorted([*rest, *held_out]) == sorted(queries)
    more = read_queries([f"query {number}" for number in range(200)])
    assert set(more.split(holdout=200 - 1)[1]) > set(held_out)  # by a hash of their ids: a larger holdout has a smaller one's queries
    assert set(queries.split(holdout=20)[1]) > set(held_out)


def test_documents_are_written_as_a_source_reads_them(tmp_path):
    write_documents(tmp_path / "corpus.jsonl", read_rows(write_records(tmp_path / "a.csv", RECORDS)))
    texts = Texts.open(tmp_path / "corpus.jsonl", join_title=True)
    assert list(texts.ids) == ["7", "8", "9"]
    assert list(texts) == ['Rhine, the a "river", naïve 東京', "  spaces stay ", "Empty "]
    assert texts.title(0) == "Rhine, the"
    write_documents(tmp_path / "corpus.jsonl", read_rows(["one", "two"]))
    assert list(Texts.open(tmp_path / "corpus.jsonl").ids) == ["0", "1"]


def test_repeated_ids_of_documents_leave_no_file(tmp_path):
    rows = read_rows([{"id": str(number % 70_000), "text": "x"} for number in range(70_002)])
    with pytest.raises(BadInput, match="documents: number 70001 has the id '0' of number 1: ids must be unique"):
        write_documents(tmp_path / "corpus.jsonl", rows)
    with pytest.raises(BadInput, match="documents: there are none"):
        write_documents(tmp_path / "corpus.jsonl", [])
    assert list(tmp_path.iterdir()) == []


def test_a_title_that_the_first_record_lacks_is_read(tmp_path):
    records = [{"text": "one"}, {"title": "Two", "text": "two"}]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for given in (records, tmp_path / "a.jsonl"):
        assert [row.title for row in read_rows(given)] == ["", "Two"]


def test_texts_that_lie_in_a_file_are_read_in_the_time_of_one_pass(tmp_path):
    """Twice as many took four times as long."""
    seconds = []
    for count in (4_000, 16_000):
        path = tmp_path / f"{count}.tsv"
        path.write_text("".join(f"{row}\t{'river ' * 30}{row}\n" for row in range(count)))
        texts = Texts.open(path)
        start = time.process_time()
        assert len(read_queries(texts)) == count
        seconds.append(time.process_time() - start)
    assert seconds[1] < 10 * seconds[0]
