import gzip
import json
import os
import pickle
import random

import numpy as np
import pytest

from distill.records import BadInput
from distill.texts.text_files import TextFile
from distill.texts.texts import Texts, concatenate_texts

NASTY = {
    "tabs": "a\tsecond\tand third tab",
    "quote": 'a lone " quote',
    "leading-quote": '"begins with a quote',
    "mojibake": "Itâ\u0080\u0099s donâ€™t",
    "na": "NA",
    "null": "null",
    "separators": "one\u2028two\u2029three\u0085four\x0bfive\x0csix",
    "return-inside": "a\rb",
    "wide": "naïve 東京 🙂",
    "spaces": "  kept as they are ",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))


def written(path, content):
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def tsv_of(records, newline="\n"):
    return "".join(f"{id_}\t{text}{newline}" for id_, text in records.items())


def json_of(records):
    return "".join(json.dumps({"_id": id_, "text": text}, ensure_ascii=False) + "\n" for id_, text in records.items())


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "t.jsonl", "t.jsonl.gz", "t.txt"])
def test_nasty_texts_come_back_as_they_were_written(tmp_path, name):
    content = json_of(NASTY) if "json" in name else tsv_of(NASTY)
    texts = Texts.open(written(tmp_path / name, content))
    assert dict(zip(texts.ids, texts, strict=True)) == NASTY
    assert texts.name == "t"
    assert texts.title(0) == ""


def test_carriage_returns_blank_lines_byte_order_mark_and_no_last_newline(tmp_path):
    path = written(tmp_path / "t.tsv", b"\xef\xbb\xbf1\tone\r\n\r\n   \n2\ttwo \n\n3\tthree")
    texts = Texts.open(path)
    assert list(zip(texts.ids, texts, strict=True)) == [("1", "one"), ("2", "two "), ("3", "three")]


def test_broken_utf8_is_replaced(tmp_path):
    assert Texts.open(written(tmp_path / "t.tsv", b"1\tcaf\xe9\n"))[0] == "caf\ufffd"
    assert Texts.open(written(tmp_path / "t.jsonl", b'{"_id": "1", "text": "half \\ud83d pair"}\n'))[0] == "half ? pair"


def test_chunks_of_any_size_give_the_same_rows(tmp_path, monkeypatch):
    rng = random.Random(0)
    records = {f"id{row}": "".join(rng.choices("ab \té\r", k=rng.randint(0, 40))) + "." for row in range(200)}
    scan = TextFile.scan
    for name, content in (("t.tsv", tsv_of(records)), ("t.jsonl", json_of(records))):
        path = written(tmp_path / name, content)
        for chunk_bytes in (1, 7, 64, 1 << 24):
            monkeypatch.setattr(TextFile, "scan", lambda file, size=chunk_bytes: scan(file, size))
            texts = Texts.open(path)
            assert dict(zip(texts.ids, texts, strict=True)) == records


def test_titles_are_joined_where_there_is_one(tmp_path):
    lines = ['{"_id": "a", "title": "T", "text": "x"}', '{"id": 7, "title": "", "text": "y"}', '{"id": "c", "title": null, "text": "z"}']
    path = written(tmp_path / "c.jsonl", "\n".join(lines))
    assert list(Texts.open(path)) == ["x", "y", "z"]
    joined = Texts.open(path, join_title=True)
    assert joined.read([0, 1, 2]) == ["T x", "y", "z"]
    assert list(joined.ids) == ["a", "7", "c"]
    assert joined.title(0) == "T"


def test_a_subset_shares_the_file(tmp_path):
    texts = Texts.open(written(tmp_path / "t.tsv", "a\t1\nb\t2\nc\t3\n"))
    subset = texts.subset([2, 0], name="few")
    assert (list(subset), list(subset.ids), subset.name, len(subset)) == (["3", "1"], ["c", "a"], "few", 2)
    assert subset.containers[0] is texts.containers[0]
    assert list(subset.subset([1])) == ["1"]
    assert len(texts.subset([])) == 0


def test_parts_are_concatenated_in_order(tmp_path):
    one = Texts.open(written(tmp_path / "one.tsv", "a\t1\nb\t2\n"))
    two = Texts.open(written(tmp_path / "two.jsonl", '{"_id": "long-id", "title": "T", "text": "3"}\n'), join_title=True)
    both = concatenate_texts([one.subset([1]), two, one.subset([0])])
    assert list(both) == ["2", "T 3", "1"]
    assert list(both.ids) == ["b", "long-id", "a"]
    assert both.name == "one+two+one"
    assert both.title(1) == "T"
    with pytest.raises(BadInput, match=r"two\.tsv line 2: id 'b' is already taken by .*one\.tsv line 2"):
        concatenate_texts([one, Texts.open(written(tmp_path / "two.tsv", "x\t1\nb\t2\n"))])


def test_fingerprint_is_of_content_and_rows_not_of_the_path(tmp_path):
    content = '{"_id": "a", "title": "T", "text": "1"}\n{"_id": "b", "text": "2"}\n'
    texts = Texts.open(written(tmp_path / "t.jsonl", content))
    assert Texts.open(written(tmp_path / "other.jsonl.gz", content)).fingerprint == texts.fingerprint
    assert texts.subset([0, 1]).fingerprint == texts.fingerprint
    different = [
        Texts.open(tmp_path / "t.jsonl", join_title=True),
        Texts.open(written(tmp_path / "u.jsonl", content.replace("2", "3"))),
        texts.subset([0]),
        texts.subset([1, 0]),
    ]
    assert len({texts.fingerprint, *(other.fingerprint for other in different)}) == 5


def test_content_fingerprint_is_of_ids_and_texts_in_order(tmp_path):
    few = Texts.from_lists(["a", "é"], ["1", "T 2"], titles=["shown", ""])
    content = '{"_id": "long-id", "text": "3"}\n{"text": "1", "_id": "a", "more": 4}\n{"_id": "é", "title": "T", "text": "2"}\n'
    file = Texts.open(written(tmp_path / "t.jsonl", content), join_title=True)
    table = Texts.open(written(tmp_path / "t.tsv", "a\t1\né\tT 2\n"))
    same = [few, file.subset([1, 2]), table, concatenate_texts([file.subset([1]), table.subset([1])])]
    assert len({texts.content_fingerprint for texts in same}) == 1 and len({texts.fingerprint for texts in same}) == 4
    different = [
        Texts.from_lists(["a", "é"], ["1", "T 3"]),
        Texts.from_lists(["a", "e"], ["1", "T 2"]),
        Texts.from_lists(["a", "é"], ["T 2", "1"]),
        few.subset([1, 0]),
        few.subset([0]),
        few.subset([]),
    ]
    assert len({few.content_fingerprint, *(texts.content_fingerprint for texts in different)}) == 7
    assert file.fingerprints("query") == (file.content_fingerprint, file.fingerprint)
    assert file.fingerprints("document") == (file.fingerprint,)


def test_pickling_takes_no_text_along(tmp_path):
    texts = Texts.open(written(tmp_path / "t.tsv", "a\t" + "x" * 100_000 + "\nb\t2\n"))
    assert texts[1] == "2"
    pickled = pickle.dumps(texts)
    assert len(pickled) < 3000
    assert pickle.loads(pickled)[0] == "x" * 100_000


def test_a_gzipped_file_is_unpacked_once_and_again_when_it_changes(tmp_path):
    path = written(tmp_path / "t.tsv.gz", "a\t1\n")
    Texts.open(path)
    plain = next((tmp_path / "cache" / "unpacked").glob("[!.]*"))
    before = plain.stat().st_mtime_ns
    assert Texts.open(path)[0] == "1"
    assert plain.stat().st_mtime_ns == before
    os.utime(written(path, "a\t2\n"), ns=(1, 1))
    assert Texts.open(path)[0] == "2"


def test_wordings_differ_in_more_than_case_and_whitespace(tmp_path):
    one = Texts.open(written(tmp_path / "one.tsv", "a\tWhat  is IT?\nb\twho\n"))
    two = Texts.open(written(tmp_path / "two.tsv", "c\t what is it? \nd\twhom\n"))
    assert one.duplicate_mask([two]).tolist() == [True, False]
    assert one.duplicate_mask([]).tolist() == [False, False]


def test_repeated_ids_are_numbered_on_request(tmp_path):
    path = written(tmp_path / "t.tsv", "a\tone\na\ttwo\n")
    assert list(Texts.open(path, unique_ids=False).ids) == ["a", "a#2"]


def test_empty_texts_are_kept_in_a_corpus_and_refused_among_queries(tmp_path):
    tsv = written(tmp_path / "t.tsv", "a\tone\n\nb\t\n")
    lines = written(tmp_path / "t.jsonl", '{"_id": "a", "text": "one"}\n{"_id": "b", "text": " "}\n')
    assert list(Texts.open(tsv)) == ["one", ""]
    with pytest.raises(BadInput, match=r"t\.tsv line 3: the text of 'b' is empty"):
        Texts.open(tsv, allow_empty=False)
    with pytest.raises(BadInput, match=r"t\.jsonl line 2: the text of 'b' is empty"):
        Texts.open(lines, allow_empty=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "", r"t\.tsv: the file is empty: expected id<TAB>text on every line"),
        ("t.jsonl", "", r't\.jsonl: the file is empty: expected {"_id": \.\.\., "text": \.\.\.} on every line'),
        ("t.tsv.gz", "", r"t\.tsv\.gz: the file is empty"),
        ("t.tsv", "\n \r\n", r"t\.tsv: no usable line: expected id<TAB>text"),
        ("t.tsv", "1\ta\n\nno tab\n", r"t\.tsv: line 3 has no tab: expected id<TAB>text"),
        ("t.tsv", "1\ta\n2", r"t\.tsv: line 2 has no tab"),
        ("t.tsv", "1\ta\n\tb\n", r"t\.tsv: line 2 has an empty id: give it one"),
        ("t.tsv", "1\ta\n" + "x" * 600 + "\tb\n", r"t\.tsv: line 2 has an id of 600 bytes: at most 512"),
        ("t.tsv", "1\ta\n2\tb\n\n1\tc\n", r"t\.tsv line 4: id '1' is already taken by .*t\.tsv line 1: ids must be unique"),
        ("t.jsonl", '{"_id": "1", "text": "a"}\n{"_id": \n', r"t\.jsonl: line 2 is not valid JSON \(Expecting value\)"),
        ("t.jsonl", '\n{"_id": "1"}\n', r"t\.jsonl: line 2 has no text"),
        ("t.jsonl", '{"_id": "1", "text": null}\n', r"t\.jsonl: line 1 has no text"),
        ("t.jsonl", "[1]\n", r"t\.jsonl: line 1 has no text"),
        ("t.jsonl", '{"text": "a"}\n', r"t\.jsonl: line 1 has no id"),
        ("t.jsonl", '{"_id": "", "text": "a"}\n', r"t\.jsonl: line 1 has an empty id"),
        ("t.jsonl", '{"id": 1, "text": "a"}\n{"_id": "1", "text": "b"}\n', r"t\.jsonl line 2: id '1' is already taken by .* line 1"),
        ("t.csv", "1,a\n", r"t\.csv: the ending says neither TSV nor JSON lines: name it \.tsv or \.jsonl"),
    ],
)
def test_bad_files_are_refused_with_the_line_and_the_fix(tmp_path, name, content, message):
    with pytest.raises(BadInput, match=message):
        Texts.open(written(tmp_path / name, content))


def test_missing_file_and_half_a_gzip_file(tmp_path):
    with pytest.raises(BadInput, match=r"none\.tsv: no such file"):
        Texts.open(tmp_path / "none.tsv")
    whole = written(tmp_path / "t.tsv.gz", "a\t1\n" * 100)
    whole.write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"t\.tsv\.gz: not a whole gzip file .*: fetch it again"):
        Texts.open(whole)
    assert not list((tmp_path / "cache" / "unpacked").glob("[!.]*"))


def test_offsets_of_a_long_file(tmp_path):
    texts = Texts.open(written(tmp_path / "t.tsv", "".join(f"{row}\ttext {row}\n" for row in range(50_000))))
    rows = np.random.default_rng(0).integers(0, 50_000, 100)
    assert texts.read(rows) == [f"text {row}" for row in rows]
    assert texts.place(49_999).endswith("line 50000")


def test_lists_in_memory():
    texts = Texts.from_lists(["b", "a"], ["two", "half \ud83d pair"], name="numbers", titles=["Two", ""])
    assert (list(texts), list(texts.ids), texts.name, len(texts)) == (["two", "half ? pair"], ["b", "a"], "numbers", 2)
    assert [texts.title(row) for row in range(2)] == ["Two", ""]
    assert (texts.place(1), texts.read([1, 0])) == ("numbers[1]", ["half ? pair", "two"])
    assert Texts.from_lists(["b"], ["two"]).title(0) == ""
    assert texts.ids.rows(["a", "c"]).tolist() == [1, -1]
    assert len(Texts.from_lists([], [])) == 0


def test_lists_in_memory_are_cut_and_joined_with_files(tmp_path):
    lists = Texts.from_lists(["x", "y", "z"], ["1", "2", "3"], name="lists", titles=["", "T", ""])
    file = Texts.open(written(tmp_path / "t.tsv", "a\tone\nb\ttwo\n"))
    few = lists.subset([2, 1], name="few")
    assert (list(few), few.title(1), few.place(0), few.name) == (["3", "2"], "T", "lists[2]", "few")
    both = concatenate_texts([file.subset([1]), few, lists.subset([0])])
    assert list(zip(both.ids, both, strict=True)) == [("b", "two"), ("z", "3"), ("y", "2"), ("x", "1")]
    assert both.name == "t+few+lists" and both.place(3) == "lists[0]"
    assert lists.duplicate_mask([Texts.from_lists(["q"], [" 2 "])]).tolist() == [False, True, False]
    with pytest.raises(BadInput, match=r"^lists\[0\]: id 'x' is already taken by .*u\.tsv line 1: ids must be unique"):
        concatenate_texts([Texts.open(written(tmp_path / "u.tsv", "x\tone\n")), lists])
    assert list(pickle.loads(pickle.dumps(both))) == list(both)


def test_fingerprint_of_lists_is_of_their_content():
    same = Texts.from_lists(["a", "b"], ["1", "2"], name="one"), Texts.from_lists(("a", "b"), ("1", "2"), name="two", titles=["", ""])
    assert same[0].fingerprint == same[1].fingerprint == same[0].subset([0, 1]).fingerprint == "c4733e572151756d"
    different = [
        Texts.from_lists(["a", "c"], ["1", "2"]),
        Texts.from_lists(["a", "b"], ["1", "3"]),
        Texts.from_lists(["a", "b"], ["1", "2"], titles=["T", ""]),
        Texts.from_lists(["b", "a"], ["2", "1"]),
        same[0].subset([1, 0]),
        same[0].subset([0]),
    ]
    assert len({same[0].fingerprint, *(other.fingerprint for other in different)}) == 7


@pytest.mark.parametrize(
    ("ids", "texts", "titles", "message"),
    [
        (["a", "b"], ["1"], None, "t: texts: 1 for 2 ids: give one for each id"),
        (["a"], ["1"], ["T", "U"], "t: titles: 2 for 1 ids: give one for each id"),
        (["a", "b", "a"], ["1", "2", "3"], None, r"t\[2\]: id 'a' is already taken by t\[0\]: ids must be unique"),
        (["a", ""], ["1", "2"], None, r"t\[1\] has an empty id: give it one"),
        (["a" * 513], ["1"], None, r"t\[0\] has an id of 513 bytes: at most 512 are allowed"),
        (["a", 7], ["1", "2"], None, r"t\[1\]: its id is '7' of type int: give a string"),
        (["a", "b"], ["1", None], None, r"t\[1\]: its text is 'None' of type NoneType: give a string"),
        (["a"], ["1"], [b"T"], r"t\[0\]: its title is .* of type bytes: give a string"),
    ],
)
def test_bad_lists_are_refused(ids, texts, titles, message):
    with pytest.raises(BadInput, match=f"^{message}"):
        Texts.from_lists(ids, texts, name="t", titles=titles)


def test_leaks_are_found_whatever_their_punctuation_and_form():
    measured = Texts.from_lists(list("abc"), ["what is the Rhine", "un caf\u00e9", "learn c++"])
    other = ["What is the Rhine?", "  what's the rhine", "un cafe\u0301!", "learn C#", "learn C++.", "???", "learn c"]
    learnt = Texts.from_lists([str(row) for row in range(len(other))], other)
    assert learnt.leak_mask([measured]).tolist() == [True, False, True, False, True, False, False]
    assert not learnt.duplicate_mask([measured]).any()
    assert not Texts.from_lists(["x"], ["!!!"]).leak_mask([learnt]).any()
