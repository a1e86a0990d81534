"""Which queries are learnt from and which are measured on, where a source has splits of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from shrink_world import DOCUMENTS, make_texts, write_beir, write_judgments

from distill.records import BadInput
from distill.shrinking.request import Request
from distill.shrinking.steps import refuse_odd_ids
from distill.shrinking.texts import JobTexts, prepare_texts
from distill.texts.sources import Beir
from distill.training.run_folder import first_difference


def prepare(folder: Path, judged: dict[str, range], **given: object) -> JobTexts:
    return prepare_texts(Request("a teacher", documents=str(write_beir(folder, judged)), **given), folder / "texts")


def refuse_shared(texts: JobTexts) -> None:
    splits = texts.source.splits()
    words = [set(texts.source.queries(split).words_hashes.tolist()) for split in splits]
    assert sum(map(len, words)) == len(set.union(*words))


def test_a_source_judged_on_dev_alone_is_measured_on_it_and_has_another_dev(tmp_path):
    texts = prepare(tmp_path, {"dev": range(30)})
    assert texts.summary["evaluated_on"] == "test" and set(texts.source.queries("test").ids) == {f"q{i}" for i in range(30)}
    assert 0 < len(texts.source.queries("dev")) < 30
    refuse_shared(texts)


def test_queries_of_test_are_not_in_dev(tmp_path):
    texts = prepare(tmp_path, {"dev": range(30), "test": range(20, 50)})
    assert len(texts.source.queries("test")) == 30 and set(texts.source.queries("dev").ids) == {f"q{i}" for i in range(20)}
    refuse_shared(texts)


def test_two_judged_splits_that_share_queries_are_measured_together(tmp_path):
    texts = prepare(tmp_path, {"test": range(30), "test2": range(20, 50)})
    assert len(texts.source.queries(texts.summary["evaluated_on"])) == 50
    refuse_shared(texts)


def test_judgments_of_the_queries_stand_beside_those_of_the_source(tmp_path):
    queries = tmp_path / "q.tsv"
    queries.write_text("".join(f"z{i}\t{text}\n" for i, text in enumerate(make_texts(100, 9, seed=7))))
    judgments = write_judgments(tmp_path / "qrels.tsv", "z", range(20))
    texts = prepare(tmp_path, {"test": range(30)}, queries=str(queries), judgments=str(judgments))
    assert texts.summary["evaluated_on"] == "test+judged"
    assert len(texts.source.queries("test")) == 30 and len(texts.source.queries("judged")) == 20
    refuse_shared(texts)


def test_judgments_of_queries_that_the_source_judges_add_nothing(tmp_path, caplog):
    parent = tmp_path / "given"
    parent.mkdir()
    folder = write_beir(parent, {"test": range(30)})
    given = {"queries": str(folder / "queries.jsonl"), "judgments": str(folder / "qrels" / "test.tsv")}
    texts = prepare_texts(Request("a teacher", documents=str(folder), **given), tmp_path / "texts")
    assert texts.summary["evaluated_on"] == "test" and "judged" not in texts.summary
    assert "test.tsv: not used: the source judges all of these queries" in caplog.text
    assert len(texts.source.queries("test")) == 30
    refuse_shared(texts)


@pytest.mark.parametrize(
    ("given", "document", "message"),
    [
        ({"documents": make_texts(DOCUMENTS, 25, seed=2)}, "other{}", "none of its documents is known"),
        ({}, "{}", "of which there are none"),
    ],
)
def test_judgments_of_no_known_document_are_refused(tmp_path, given, document, message):
    judgments = write_judgments(tmp_path / "qrels.tsv", "", range(20), document)
    queries = [{"id": str(i), "text": text} for i, text in enumerate(make_texts(60, 9, seed=7))]
    with pytest.raises(BadInput, match=message):
        prepare_texts(Request("a teacher", queries=queries, judgments=str(judgments), **given), tmp_path / "texts")


def test_unknown_queries_and_documents_are_counted(tmp_path, caplog):
    judgments = write_judgments(tmp_path / "qrels.tsv", "", range(20))
    judgments.write_text(judgments.read_text().replace("d", "") + "nobody\t1\t1\n3\tnowhere\t1\n")
    queries = [{"id": str(i), "text": text} for i, text in enumerate(make_texts(60, 9, seed=7))]
    request = Request("a teacher", queries=queries, judgments=str(judgments), documents=make_texts(DOCUMENTS, 25, seed=2))
    with caplog.at_level("INFO", logger="distill"):
        prepare_texts(request, tmp_path / "texts")
    assert "1 of 21 judged queries are not among the queries" in caplog.text
    assert "1 of 21 judged documents are unknown" in caplog.text


@pytest.mark.parametrize("name", ["documents.csv", "queries.csv"])
def test_ids_with_white_space_are_named_where_they_were_read(tmp_path, name):
    (tmp_path / name).write_text(
        "id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(make_texts(60, 9, seed=7))) + "wiki/A 1,odd\n"
    )
    request = Request("a teacher", **{name.removesuffix(".csv"): str(tmp_path / name)})
    texts = prepare_texts(request, tmp_path / "texts")
    with pytest.raises(BadInput, match=rf"{name} line 62: the id 'wiki/A 1' has white space, which separates the columns of run files"):
        refuse_odd_ids(request, texts)


def test_ids_with_white_space_in_a_source_are_named_with_their_line(tmp_path):
    prepare(tmp_path, {"dev": range(30)})
    corpus = tmp_path / "beir" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace('"d4"', '"d 4"'))
    request = Request("a teacher", documents=str(tmp_path / "beir"))
    texts = prepare_texts(request, tmp_path / "others")
    with pytest.raises(BadInput, match=r"corpus\.jsonl line 5: the id 'd 4' has white space"):
        refuse_odd_ids(request, texts)


def test_a_judged_holdout_of_the_source_leaves_all_other_queries_to_training(tmp_path):
    texts = prepare(tmp_path, {"holdout": range(30)})
    assert texts.summary["evaluated_on"] == "holdout" and len(texts.source.queries("holdout")) == 30
    assert sum(len(texts.source.queries(name)) for name in ("train", "dev")) == 170


def test_numbers_given_to_documents_are_no_ids_of_queries(tmp_path):
    """Queries numbered by their own file do not ask for the documents that we numbered; ids that somebody gave are ids."""
    queries = [{"id": str(number), "query": f"what is {word} {number}"} for number, word in enumerate("abcdefgh" * 8)]
    texts = [f"about {number} and more" for number in range(40)]
    for name, documents in (("numbered", texts), ("named", [{"id": str(n), "text": text} for n, text in enumerate(texts)])):
        request = Request(teacher="a/b", queries=queries, documents=documents, out=tmp_path)
        for _ in range(2):  # also where the texts are there already
            assert prepare_texts(request, tmp_path / name).source.keep_own_documents == (name == "numbered")


def test_a_source_that_keeps_own_documents_keeps_them_in_a_job(tmp_path):
    prepare(tmp_path, {"test": range(20)})
    for keeps in (True, False):
        request = Request("a teacher", source=Beir(str(tmp_path / "beir"), keep_own_documents=keeps))
        assert prepare_texts(request, tmp_path / f"texts {keeps}").source.keep_own_documents == keeps


def test_a_job_keeps_own_documents_if_asked(tmp_path):
    prepare(tmp_path, {"test": range(20)})
    texts = [{"id": f"q{number}", "text": f"what is {number} of {number}"} for number in range(40)]
    for name, given in {"folder": {"documents": str(tmp_path / "beir")}, "lists": {"queries": texts, "documents": texts}}.items():
        for keeps in (True, False):
            request = Request("a teacher", keep_own_documents=keeps, **given)
            assert prepare_texts(request, tmp_path / f"{name} {keeps}").source.keep_own_documents == keeps
    asked, not_asked = (Request("a teacher", ["x"], keep_own_documents=keeps).describe() for keeps in (True, False))
    assert first_difference(not_asked, asked) == "own documents was None, now kept"
    with pytest.raises(BadInput, match="say it of the source"):
        Request("a teacher", source=Beir(str(tmp_path / "beir")), keep_own_documents=True)


def test_judgments_without_a_relevant_document_are_refused_at_once(tmp_path):
    judgments = write_judgments(tmp_path / "qrels.tsv", "", range(20))
    judgments.write_text(judgments.read_text().replace("d", "").replace("\t1\n", "\t0\n"))
    queries = [{"id": str(i), "text": text} for i, text in enumerate(make_texts(60, 9, seed=7))]
    request = Request("a teacher", queries=queries, judgments=str(judgments), documents=make_texts(DOCUMENTS, 25, seed=2))
    with pytest.raises(BadInput, match=r"qrels\.tsv: no known document has a grade above 0"):
        prepare_texts(request, tmp_path / "texts")


def test_fields_of_no_file_are_refused(tmp_path):
    prepare(tmp_path, {"test": range(20)})
    with pytest.raises(BadInput, match="fields: they name fields of a file of --documents"):
        Request("a teacher", documents=str(tmp_path / "beir"), fields="text=body")
    for name in ("text_field", "id_field"):
        with pytest.raises(BadInput, match="they name fields of the file of --queries"):
            Request("a teacher", documents=str(tmp_path / "beir"), **{name: "q"})
