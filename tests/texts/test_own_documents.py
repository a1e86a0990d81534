"""Which documents are a query's own, in every form in which documents are listed; and queries that have the wording of a document."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

import distill.texts.own_documents
from distill.metrics.trec_runs import read_trec
from distill.records import BadInput
from distill.texts.ids import Ids
from distill.texts.own_documents import copy_run, drop_own_documents, find_own_documents, leave_out_own_ids, warn_of_copies
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts

DOCUMENTS = {"a": "The  Rhine", "b": "bread", "c": "old music", "d": "music", "e": "Old Music", "7": "seven"}
QUERIES = {"b": "bread", "x": "OLD music", "a": "the rhine", "7": "what is seven"}


class Notes(TextSource):
    """Queries of which some are documents; 7 is judged to be answered by document 7, a is judged not to be by itself."""

    def load_documents(self) -> Texts:
        return Texts.from_lists(list(DOCUMENTS), list(DOCUMENTS.values()))

    def list_splits(self) -> list[str]:
        return ["test", "more"]

    def load_queries(self, split: str) -> Texts:
        ids = list(QUERIES) if split == "test" else ["c", "d"]
        return Texts.from_lists(ids, [QUERIES.get(id_, f"about {id_}") for id_ in ids])

    def load_qrels(self, split: str) -> Qrels:
        return Qrels({"7": {"7": 1}, "a": {"a": 0, "b": 1}, "x": {"d": 1}} if split == "test" else {"d": {"d": 2}})


def find(source: TextSource, split: str = "test", documents: str = "abcde7", judged: bool = True) -> list[int] | None:
    rows = find_own_documents(source, split, source.queries(split).ids, Ids.of(documents), judged)
    return None if rows is None else rows.tolist()


def test_the_own_document_is_found_unless_it_is_judged_relevant() -> None:
    assert find(Notes()) == [1, -1, 0, -1]  # b and a; 7 is an answer, x is no document
    assert find(Notes(), "test+more") == [1, -1, 0, -1, 2, -1]
    assert find(Notes(), "more", judged=False) == [2, 3]
    assert find(Notes(), documents="7ba") == [1, -1, 2, -1]  # another order


def test_none_where_nothing_is_left_out() -> None:
    assert find(Notes(keep_own_documents=True)) is None
    assert find(Notes(), documents="yz7") is None
    assert find(Notes(), documents="yz") is None
    with pytest.raises(BadInput, match="keep_own_documents is 'yes': it is true or false"):
        Notes(keep_own_documents="yes")  # type: ignore[arg-type]


def test_one_line_for_each_split(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.INFO, "distill")
    source = Notes()
    for split in ("test", "test", "more", "test"):
        find(source, split)
    found = "the document with the query's own id is left out for"
    rest = "and kept for 1 where it is judged relevant (keep_own_documents keeps all)"
    assert caplog.messages == [f"Notes, test: {found} 2 of 4 queries, {rest}", f"Notes, more: {found} 1 of 2 queries, {rest}"]
    caplog.clear()
    monkeypatch.setenv("RANK", "1")  # of torchrun: the first rank says it
    find(Notes())
    assert not caplog.messages


RUN = {"b": [("c", 3.0), ("b", 2.0), ("a", 1.0)], "7": [("7", 1.0)], "x": [("x", 2.0), ("a", 1.0)]}


def test_runs_lose_own_documents_that_the_corpus_lacks_too(caplog: pytest.LogCaptureFixture) -> None:
    """A run over a larger corpus may have the query x as a document, where ours was left without it."""
    caplog.set_level(logging.INFO, "distill")
    assert drop_own_documents(Notes(), "test", RUN, "bm25.trec") == {"b": [("c", 3.0), ("a", 1.0)], "7": [("7", 1.0)], "x": [("a", 1.0)]}
    assert "test of bm25.trec: the document with the query's own id is left out for 2 queries" in caplog.text
    assert drop_own_documents(Notes(keep_own_documents=True), "test", RUN, "bm25.trec") is RUN
    lists = {query: [document for document, _ in found] for query, found in RUN.items()}
    assert leave_out_own_ids(Notes(), "test", lists) == {"b": ["c", "a"], "7": ["7"], "x": ["a"]}
    assert leave_out_own_ids(Notes(keep_own_documents=True), "test", lists) == lists


def test_a_copied_run_file_keeps_all_other_lines_as_they_are(tmp_path: Path) -> None:
    lines = ["\ufeffb Q0 b 1 9 mine\r\n", "b\tQ0\tc\t2\t8\tmine\n", "7 Q0 7 1 1.50 mine\n", "\n", "x Q0 x 1 2 mine"]
    (tmp_path / "run").write_text("".join(lines), encoding="utf-8", newline="")
    copy_run(Notes(), "test", tmp_path / "run", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"b\tQ0\tc\t2\t8\tmine\n7 Q0 7 1 1.50 mine\n\n"
    copy_run(Notes(keep_own_documents=True), "test", tmp_path / "run", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "run").read_bytes().removeprefix(b"\xef\xbb\xbf")


def test_a_copied_run_is_one_that_the_report_reads(tmp_path: Path) -> None:
    """The file may be gzipped, or have the line ends of old Macs: its own document in the first line is not all that there is."""
    lines = ["b Q0 b 1 9 mine", "b Q0 c 2 8 mine", "x Q0 a 1 2 mine"]
    (tmp_path / "run.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "run").write_bytes("\r".join(lines).encode())
    for name in ("run.gz", "run"):
        copy_run(Notes(), "test", tmp_path / name, tmp_path / "copy.trec")
        assert read_trec(tmp_path / "copy.trec") == {"b": [("c", 8.0)], "x": [("a", 2.0)]}


@pytest.mark.parametrize("most", [100, 2])
def test_the_wording_of_another_document_is_counted(most: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """x has the words of c and of e, whatever their case; b and a have those of their own documents alone."""
    monkeypatch.setattr(distill.texts.own_documents, "TEXTS_READ", most)
    warn_of_copies(Notes(), "test", np.array([[2, -1], [0, 1]]))
    (message,) = caplog.messages
    assert message == (
        "Notes: 1 of 4 queries of test have the wording of a document with another id, 'x' that of 'c' for one: "
        "such documents stay in the rankings"
    )
    assert caplog.records[0].levelname == "WARNING"
    caplog.clear()
    warn_of_copies(Notes(), "more")
    assert not caplog.messages


def test_of_a_large_corpus_only_the_ranked_documents_are_read(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill.texts.own_documents, "TEXTS_READ", 2)
    source = Notes()
    warn_of_copies(source, "test", np.array([[0, 1], [-1, 5]]))
    assert not caplog.messages


def test_a_copy_that_is_judged_relevant_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    source = Notes()
    source.load_qrels = lambda split: Qrels({"x": {"c": 1, "e": 2}})  # type: ignore[method-assign]
    warn_of_copies(source, "test")
    assert not caplog.messages
