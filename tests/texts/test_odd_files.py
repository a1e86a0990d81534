"""Text files of other programs: every encoding is read right or named, in every reader; no line fills the memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.files import text_lines
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput
from distill.teachers.mined import read_mined_lines
from distill.texts import line_spans, table_files, text_files
from distill.texts.qrels import read_qrels
from distill.texts.tables import read_rows
from distill.texts.texts import Texts
from distill.vectors import vector_files
from distill.vectors.vector_files import read_ids

JSON_LINES = '{"_id": "1", "text": "one"}\n{"_id": "é", "text": "zwölf"}\n'
MINED = '{"query": "1", "positive": "1", "negatives": ["é"]}\n{"query": "é", "positive": "é", "negatives": []}\n'


def open_texts(path: Path) -> Any:
    texts = Texts.open(path)
    return list(zip(texts.ids, texts, strict=True))


def read_table(path: Path) -> Any:
    return [(row.id, row.text) for row in read_rows(path)]


def read_judgments(path: Path) -> Any:
    return read_qrels(path).judgments


TEXTS, RUN = [("1", "one"), ("é", "zwölf")], {"1": [("é", 2.0)], "é": [("1", 1.0)]}
# how each kind of file is read, its content, and what must come out
READERS: dict[str, tuple[Callable[[Path], Any], str, Any]] = {
    "corpus.jsonl": (open_texts, JSON_LINES, TEXTS),
    "collection.tsv": (open_texts, "1\tone\né\tzwölf\n", TEXTS),
    "corpus.jsonl.gz": (open_texts, JSON_LINES, TEXTS),
    "log.jsonl": (read_table, JSON_LINES, TEXTS),
    "log.tsv": (read_table, "1\tone\né\tzwölf\n", TEXTS),
    "log.csv": (read_table, "id,text\n1,one\né,zwölf\n", TEXTS),
    "log.txt.gz": (read_table, "one\nzwölf\n", [(None, "one"), (None, "zwölf")]),
    "run.trec": (read_trec, "1 Q0 é 1 2.0 x\né Q0 1 1 1.0 x\n", RUN),
    "qrels.tsv": (read_judgments, "1\té\t1\né\t1\t2\n", {"1": {"é": 1}, "é": {"1": 2}}),
    "negatives.jsonl": (lambda path: [line.query for line in read_mined_lines(path)], MINED, ["1", "é"]),
    "ids.txt": (lambda path: list(read_ids("vectors", str(path))), "1\né\n", ["1", "é"]),
}
EVERY_READER = pytest.mark.parametrize("name", READERS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@EVERY_READER
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_any_line_end_change_nothing(tmp_path: Path, name: str, mark: str, line_end: str) -> None:
    read, content, expected = READERS[name]
    assert read(write(tmp_path / name, mark + content.replace("\n", line_end))) == expected


@pytest.mark.parametrize("name", ["corpus.jsonl", "collection.tsv", "log.jsonl", "run.trec", "qrels.tsv", "negatives.jsonl", "ids.txt"])
def test_joined_files_may_each_begin_with_a_mark(tmp_path: Path, name: str) -> None:
    read, content, expected = READERS[name]
    assert read(write(tmp_path / name, "".join(f"\ufeff{line}" for line in content.splitlines(keepends=True)))) == expected


@EVERY_READER
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(tmp_path: Path, name: str, encoding: str) -> None:
    read, content, _ = READERS[name]
    with pytest.raises(BadInput, match=rf"{name}: is {encoding[:6].upper()}, not UTF-8: save it as UTF-8$"):
        read(write(tmp_path / name, content.encode(encoding)))


@EVERY_READER
def test_packed_files_under_a_plain_name_are_named(tmp_path: Path, name: str) -> None:
    read, content, _ = READERS[name]
    plain = tmp_path / name.removesuffix(".gz")
    plain.write_bytes(gzip.compress(content.encode()))
    with pytest.raises(BadInput, match="is a gzip file, not text: unpack it"):
        read(plain)


@EVERY_READER
def test_old_line_ends_are_read_or_named(tmp_path: Path, name: str) -> None:
    read, content, expected = READERS[name]
    path = write(tmp_path / name, content.replace("\n", "\r"))
    if name.startswith(("corpus", "collection")):
        with pytest.raises(BadInput, match="its lines end in a carriage return alone, as on old Macs"):
            read(path)
    elif name != "ids.txt":  # one id with white space, which an import refuses
        assert read(path) == expected


@pytest.mark.parametrize("name", ["corpus.jsonl", "collection.tsv", "corpus.jsonl.gz", "qrels.tsv", "negatives.jsonl"])
def test_lines_that_are_not_utf8_are_counted(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    read, content, _ = READERS[name]
    path = write(tmp_path / name, content.encode("latin-1"))
    read(path)
    assert [message.replace("2 lines are", "1 line is") for message in caplog.messages] == [
        f"{path}: 1 line is not UTF-8, Latin-1 perhaps: what cannot be read became U+FFFD: save the file as UTF-8"
    ]
    caplog.clear()
    read(write(tmp_path / f"good-{name}", content))
    assert not caplog.messages


@pytest.mark.parametrize("name", ["texts.jsonl.gz", "texts.tsv.gz", "log.csv.gz", "log.txt.gz"])
def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("distill.files.text_lines.LONGEST_LINE", 1 << 18)
    line = {"csv": "x\n", "jsonl": '{"_id": "1", "text": "x"}\n', "tsv": "1\tx\n", "txt": "x\n"}[name.split(".")[1]]
    path = write(tmp_path / name, ("text\n" if "csv" in name else "") + line * (1 << 20))
    read = open_texts if name.startswith("texts") else read_table
    with pytest.raises(BadInput, match="unpacks to over 300 times its size, as no texts do"):
        read(path)
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file != path and file.stat().st_size > 1 << 18]


def test_parts_of_a_character_that_lie_apart_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes beyond ASCII are looked at without the ASCII between them."""
    words = b"many words " * 20
    Texts.open(write(tmp_path / "a.tsv", b"1\t\xc3" + words + b"\xa9\n2\t" + "caf\u00e9".encode() + words + b"\n"))
    assert "1 line is not UTF-8" in caplog.text


@pytest.mark.parametrize("name", ["log.jsonl", "log.tsv", "log.csv", "log.txt.gz", "run.trec"])
def test_lines_that_are_not_utf8_are_refused_where_they_were(tmp_path: Path, name: str) -> None:
    read, content, _ = READERS[name]
    line = 1 if name == "run.trec" else 3 if name == "log.csv" else 2
    with pytest.raises(BadInput, match=rf"{name} line {line}: not UTF-8 \(byte 0x\w\w, perhaps of Latin-1\): save the file as UTF-8"):
        read(write(tmp_path / name, content.encode("latin-1")))


def test_quotes_of_windows_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="perhaps of Windows-1252"):
        read_table(write(tmp_path / "a.txt", "it\u2019s".encode("cp1252")))


@pytest.mark.parametrize(
    "header", ["qid\tquery", "\ufeffID\tText\r", "pid\tpassage_text", "query-id\tquery_text", "docid\turl\ttitle\tbody"]
)
def test_a_header_is_no_text(tmp_path: Path, header: str) -> None:
    with pytest.raises(BadInput, match="line 1 is a header, "):
        Texts.open(write(tmp_path / "a.tsv", f"{header}\n1\tone\n"))


@pytest.mark.parametrize("first", ["1\tquery", "id\tof a passport", "qid"])
def test_a_text_is_no_header(tmp_path: Path, first: str) -> None:
    path = write(tmp_path / "a.tsv", f"{first}\n1x\tone\n" if "\t" in first else f"{first}\tone\n")
    assert len(Texts.open(path)) in (1, 2)


def test_headers_of_judgments_and_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="line 1 has the grade 'judgement': expected a whole number, or a header with score"):
        read_qrels(write(tmp_path / "q.tsv", "query-id\tcorpus-id\tjudgement\nq\td\t1\n"))
    with pytest.raises(BadInput, match=":1: score 'score' is not a number: remove the header"):
        read_trec(write(tmp_path / "r.trec", "query Q0 doc rank score tag\nq Q0 d 1 2 x\n"))


LONG = {"jsonl": '{"_id": "3", "text": "', "tsv": "3\t", "csv": '3,"', "txt": "", "trec": "q Q0 "}


@EVERY_READER
@pytest.mark.parametrize("place", ["first", "last"])
def test_no_line_is_longer_than_memory_should_hold(tmp_path: Path, name: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of 1 KiB, which lets all the others pass; a part of it is read at a time."""
    for module in (text_lines, text_files, table_files):
        monkeypatch.setattr(module, "LONGEST_LINE", 1 << 10)
    monkeypatch.setattr(vector_files, "BYTES_PER_READ", 1 << 10)
    scan = text_files.TextFile.scan
    monkeypatch.setattr(text_files.TextFile, "scan", lambda file: scan(file, 1 << 9))
    read, content, expected = READERS[name]
    ending = name.removesuffix(".gz").rpartition(".")[2]
    long_line = f"{LONG[ending]}{'x' * 3000}"
    filler = content.splitlines(keepends=True)
    path = write(tmp_path / name, "".join([f"{long_line}\n", *filler] if place == "first" else [*filler, long_line]))
    with pytest.raises(BadInput, match=r"longer than .* MiB: end every record with a line break|bytes long: expected an id"):
        read(path)
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert read(write(tmp_path / f"good-{name}", content)) == expected


def test_lines_up_to_the_limit_are_read_in_chunks_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "LONGEST_LINE", 100)
    scan = text_files.TextFile.scan
    for longest, fits in ((100, True), (101, False)):
        lines = ["1\tone\n", "2\t" + "x" * (longest - 3) + "\n", "3\tthree\n"]
        path = write(tmp_path / f"{longest}.tsv", "".join(lines))
        for chunk_bytes in (1, 7, 64, 99):
            monkeypatch.setattr(text_files.TextFile, "scan", lambda file, size=chunk_bytes: scan(file, size))
            if fits:
                assert open_texts(path) == [tuple(line[:-1].split("\t")) for line in lines]
            else:
                with pytest.raises(BadInput, match="line 2 is longer than"):
                    open_texts(path)


def test_a_quote_that_is_never_closed_ends_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "LONGEST_FIELD", 1 << 10)
    with pytest.raises(BadInput, match=r"line 2: not CSV \(field larger than field limit \(1024\)\)"):
        read_table(write(tmp_path / "a.csv", 'id,text\n1,"open\n' + "2,two\n" * 1000))


ODD_IDS = ["a b", "a\u00a0b", "\u30001", "a\u2028b", "a\x1cb", " 7", "a\x00", "a\x00b", "\ufeff7", "a\x7fb"]


@pytest.mark.parametrize("id_", ODD_IDS, ids=ascii)
def test_ids_that_run_files_cannot_hold_are_named_with_their_line(tmp_path: Path, id_: str) -> None:
    content = "".join(json.dumps({"_id": name, "text": "x"}) + "\n" for name in ("ok", "é", id_))
    with pytest.raises(BadInput, match=r"a\.jsonl:? line 3"):
        Texts.open(write(tmp_path / "a.jsonl", content)).refuse_odd_ids()


def test_ids_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="line 2: the id 'caf\ufffd' is not UTF-8"):
        Texts.open(write(tmp_path / "a.tsv", b"ok\tone\ncaf\xe9\ttwo\n")).refuse_odd_ids()


def test_words_of_any_script_are_ids() -> None:
    words = ["7", "wiki/Page_11", "東京", "naïve", "a\u200bb", "#!~", "d" * 512]
    Texts.from_lists(words, words).refuse_odd_ids()


def test_marks_are_skipped_in_the_lines_that_have_one() -> None:
    import numpy as np

    chunk = np.frombuffer("\ufeffa\nb\n\ufeff\n".encode(), np.uint8)
    starts, ends = line_spans.line_spans(chunk)
    assert line_spans.skip_byte_order_marks(chunk, starts).tolist() == [3, 5, 10]
    assert ends.tolist() == [4, 6, 10]
