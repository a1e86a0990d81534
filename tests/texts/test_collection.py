import gzip

import pytest

from distill.files.configs import from_config, to_config
from distill.records import BadInput
from distill.texts.collection import Collection, write_split
from distill.texts.qrels import Qrels
from distill.texts.sources import Beir
from distill.texts.tables import read_rows, write_documents
from distill.texts.texts import Texts

QUERIES = Texts.from_lists(["q1", "q2", "q3"], ["what is the\ta", "how  to bake", "naïve 東京"])
JUDGMENTS = Qrels({"q1": {"d1": 2, "d 2": 0}, "elsewhere": {"d1": 1}})


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "texts"
    write_documents(folder / "corpus.jsonl", read_rows([{"id": "d1", "title": "T", "text": "one"}, {"id": "d 2", "text": "two"}]))
    write_split(folder, "train", QUERIES)
    write_split(folder, "dev", Texts.from_lists(["q1"], ["dev one"]), JUDGMENTS)
    write_split(folder, "holdout", Texts.from_lists(["h1"], ["How to BAKE"]))
    return folder


def test_a_collection_reads_what_was_written(root):
    source = Collection(str(root))
    assert source.splits() == ["train", "dev", "holdout"]
    assert dict(zip(source.documents().ids, source.documents(), strict=True)) == {"d1": "T one", "d 2": "two"}
    assert dict(zip(source.queries("dev").ids, source.queries("dev"), strict=True)) == {"q1": "dev one"}
    assert source.qrels("dev").judgments == {"q1": {"d1": 2, "d 2": 0}}
    assert source.qrels("train") is None and source.qrels("holdout") is None


def test_a_holdout_of_its_own_is_a_split_like_others(root):
    source = Collection(str(root))
    assert list(source.queries("holdout")) == ["How to BAKE"]
    assert list(source.queries("train")) == ["what is the\ta", "naïve 東京"]  # not the wording that is held out
    assert source.removed_from_train == 1


def test_judgments_of_before_go_when_a_split_is_written_without(root):
    write_split(root, "dev", QUERIES, Qrels({"elsewhere": {"d1": 1}}))
    assert Collection(str(root)).qrels("dev") is None
    assert not (root / "qrels.dev.tsv").exists()


def test_train_queries_are_searched_where_there_are_no_documents(root):
    (root / "corpus.jsonl").unlink()
    assert not Collection(str(root)).has_documents()
    source = Collection(str(root), searches_queries=True)
    assert source.has_documents()
    assert source.documents().fingerprint == source.queries("train").fingerprint == Collection(str(root)).queries("train").fingerprint
    assert list(source.documents().ids) == ["q1", "q3"]


def test_documents_of_another_source_survive_a_configuration(root, tmp_path):
    (tmp_path / "beir").mkdir()
    (tmp_path / "beir" / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "x", "text": "elsewhere"}\n'))
    (tmp_path / "beir" / "queries.jsonl").write_text('{"_id": "q", "text": "query"}\n')
    source = Collection(str(root), documents=Beir(str(tmp_path / "beir")), relevant_from=2)
    config = to_config(source)
    assert config["init_args"]["documents"]["class_path"] == "distill.texts.sources.Beir"
    again = from_config(config)
    assert list(again.documents()) == ["elsewhere"] and again.relevant_from == 2
    assert again.documents().fingerprint == source.documents().fingerprint
    assert list(again.queries("dev")) == ["dev one"]


def test_what_is_no_collection_is_refused(root, tmp_path):
    with pytest.raises(BadInput, match=r"no queries\.SPLIT\.jsonl in it"):
        Collection(str(tmp_path))
    with pytest.raises(BadInput, match="choose one of the two"):
        Collection(str(root), documents=Collection(str(root)), searches_queries=True)
    (root / "corpus.jsonl").unlink()
    with pytest.raises(BadInput, match=r"corpus\.jsonl: no such file"):
        Collection(str(root)).documents()
