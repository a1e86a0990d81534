import gzip
import os
import sys

import pytest
from conftest import REAL_DATA

from distill.files.configs import from_config, to_config
from distill.records import BadInput
from distill.texts.python_docs import PythonDocs
from distill.texts.sources import Beir, MsMarcoTsv, QueryFile

needs_real_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no data at {REAL_DATA}: set DISTILL_TEST_DATA")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def marco(tmp_path):
    root = tmp_path / "marco"
    root.mkdir()
    (root / "collection.tsv").write_text("d1\tone\nd2\ttwo\nd3\t\n")
    (root / "queries.train.tsv").write_text("1\tfirst\n2\tWhat  is it\n3\tthird\n4\tfourth\n5\tTHIRD \n")
    (root / "qrels.train.tsv").write_text("1 0 d1 1\n2 0 d2 1\n3 0 d2 1\n5 0 d2 1\n")
    (root / "queries.dl19.tsv").write_text("10\twhat is it\n11\tother\n")
    (root / "qrels.dl19.tsv").write_text("10 0 d1 3\n")
    (root / "queries.dev.small.tsv").write_text("20\tdev\n")
    return root


@pytest.fixture
def beir(tmp_path):
    root = tmp_path / "beir"
    (root / "qrels").mkdir(parents=True)
    corpus = b'{"_id": "d1", "title": "T", "text": "one"}\n{"_id": "d2", "title": "", "text": ""}\n'
    (root / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus))
    (root / "queries.jsonl").write_text("".join(f'{{"_id": "q{row}", "text": "query {row}"}}\n' for row in range(4)))
    (root / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td1\t1\nq1\td2\t1\n")
    return root


def test_ms_marco_splits(marco):
    source = MsMarcoTsv(str(marco))
    assert source.splits() == ["dev.small", "dl19", "train"]
    assert source.name == "marco"
    assert list(source.documents()) == ["one", "two", ""]
    assert source.documents() is source.documents()
    assert list(source.queries("dl19")) == ["what is it", "other"]
    assert source.qrels("dl19").judgments == {"10": {"d1": 3}}
    assert source.qrels("dev.small") is None


def test_splits_are_joined_with_plus(marco):
    source = MsMarcoTsv(str(marco))
    assert list(source.queries("dl19+dev.small").ids) == ["10", "11", "20"]
    assert source.queries("dl19+dev.small").name == "queries.dl19+dev.small"
    assert source.qrels("dl19+dev.small").judgments == {"10": {"d1": 3}}
    (marco / "queries.dl20.tsv").write_text("11\tagain\n")
    with pytest.raises(BadInput, match=r"queries\.dl20\.tsv line 1: id '11' is already taken by .*queries\.dl19\.tsv line 2"):
        MsMarcoTsv(str(marco)).queries("dl19+dl20")


def test_train_says_nothing_that_another_split_says(marco):
    source = MsMarcoTsv(str(marco))
    assert list(source.queries("train").ids) == ["1", "3", "4", "5"]
    assert source.removed_from_train == 1
    assert set(source.qrels("train").judgments) == {"1", "3", "5"}
    assert list(source.remove_leaked(source.queries("dev.small"))) == []


@pytest.mark.parametrize("holdout", [1, 2, 3])
def test_holdout_is_fixed_and_apart_from_train(marco, holdout):
    source = MsMarcoTsv(str(marco), holdout=holdout)
    assert source.splits()[-1] == "holdout"
    held, train = source.queries("holdout"), source.queries("train")
    assert list(held.ids) == list(MsMarcoTsv(str(marco), holdout=holdout).queries("holdout").ids)
    assert len(held) == holdout
    assert not {text.strip().lower() for text in held} & {text.strip().lower() for text in train}
    assert len(train) + len(held) + source.removed_from_train == 5
    assert set(source.qrels("holdout").judgments) == set(held.ids) - {"4"}
    assert set(source.qrels("train").judgments) == set(train.ids) - {"4"}
    assert next(iter(held.ids)) in MsMarcoTsv(str(marco), holdout=3).queries("holdout").ids


def test_extra_queries_leak_nothing(marco, tmp_path):
    (tmp_path / "extra.tsv").write_text("1\tnew\n1\tWHAT is it\n1\tfirst\n")
    extra = QueryFile(str(tmp_path / "extra.tsv")).queries()
    assert list(extra.ids) == ["1", "1#2", "1#3"]
    assert list(MsMarcoTsv(str(marco)).remove_leaked(extra)) == ["new", "first"]


def test_ms_marco_errors(marco, tmp_path):
    with pytest.raises(BadInput, match=r"nowhere/collection\.tsv: no such file"):
        MsMarcoTsv(str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match=r"marco: no split 'test': there are dev\.small, dl19, train$"):
        MsMarcoTsv(str(marco)).queries("dl19+test")
    with pytest.raises(BadInput, match="marco: no split 'holdout'"):
        MsMarcoTsv(str(marco)).qrels("holdout")
    with pytest.raises(BadInput, match="holdout is -1: it is a number of train queries"):
        MsMarcoTsv(str(marco), holdout=-1)
    for grade in (0, None):
        with pytest.raises(BadInput, match=f"relevant_from is {grade}: it is the lowest grade that counts as relevant"):
            MsMarcoTsv(str(marco), relevant_from=grade)
    with pytest.raises(BadInput, match="holdout of 4 leaves nothing of 4 train queries: ask for fewer"):
        MsMarcoTsv(str(marco), holdout=4).queries("train")
    (marco / "qrels.dl19.tsv").write_text("99 0 d1 1\n")
    with pytest.raises(BadInput, match=r"qrels\.dl19\.tsv: query '99' not in the queries of .*marco"):
        MsMarcoTsv(str(marco)).qrels("dl19")
    (marco / "queries.dl19.tsv").write_text("10\t\n")
    with pytest.raises(BadInput, match=r"queries\.dl19\.tsv line 1: the text of '10' is empty"):
        MsMarcoTsv(str(marco)).queries("dl19")


def test_a_holdout_needs_train_queries_and_its_name(marco):
    (marco / "queries.holdout.tsv").write_text("7\tq\n")
    assert list(MsMarcoTsv(str(marco)).queries("holdout").ids) == ["7"]
    with pytest.raises(BadInput, match="a holdout needs a split train and none called holdout"):
        MsMarcoTsv(str(marco), holdout=1).queries("holdout")
    (marco / "queries.holdout.tsv").unlink()
    (marco / "queries.train.tsv").unlink()
    with pytest.raises(BadInput, match="a holdout needs a split train"):
        MsMarcoTsv(str(marco), holdout=1).queries("holdout")


def test_beir_queries_are_those_its_judgments_name(beir):
    source = Beir(str(beir))
    assert source.splits() == ["train", "test"]
    assert list(source.documents()) == ["T one", ""]
    assert list(Beir(str(beir), join_title=False).documents()) == ["one", ""]
    assert list(source.queries("test").ids) == ["q1", "q3"]
    assert source.queries("test").name == "queries.test"
    assert list(source.queries("train").ids) == ["q0", "q2"]
    assert source.qrels("train") is None
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td1\t1\n")
    labelled = Beir(str(beir))
    assert labelled.splits() == ["test", "train"]
    assert list(labelled.queries("train").ids) == ["q2"]
    assert labelled.qrels("train+test").judgments == {"q2": {"d1": 1}, "q3": {"d1": 1}, "q1": {"d2": 1}}


def test_beir_without_judgments_is_all_train(beir):
    (beir / "qrels" / "test.tsv").unlink()
    source = Beir(str(beir), holdout=1, relevant_from=2)
    assert source.splits() == ["train", "holdout"]
    assert len(source.queries("train")) == 3
    assert source.relevant_from == 2


def test_beir_errors(beir):
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq9\td1\t1\n")
    with pytest.raises(BadInput, match=r"test\.tsv: query 'q9' not in .*queries\.jsonl"):
        Beir(str(beir)).queries("test")
    (beir / "queries.jsonl").unlink()
    with pytest.raises(BadInput, match=r"queries\.jsonl: no such file"):
        Beir(str(beir))


def test_a_configuration_describes_a_source(marco, beir, tmp_path):
    packages = PythonDocs(str(tmp_path / "docs"), packages=["here"])
    for source in (MsMarcoTsv(str(marco), holdout=1), Beir(str(beir), 1, False), packages):
        config = to_config(source)
        assert config["init_args"] == {**source.init_args}
        again = from_config(config)
        assert type(again) is type(source)
        assert (again.root, again.holdout, again.relevant_from) == (source.root, source.holdout, source.relevant_from)
    assert config == {
        "class_path": "distill.texts.python_docs.PythonDocs",
        "init_args": {"root": str(tmp_path / "docs"), "holdout": 0, "limit": 20000, "documents": None, "packages": ["here"]},
    }
    assert from_config(to_config(Beir(str(beir), join_title=False))).documents()[0] == "one"


def test_a_query_file_that_is_missing():
    with pytest.raises(BadInput, match=r"none\.tsv: no such file"):
        QueryFile("none.tsv")


def test_importing_sources_leaves_torch_alone():
    code = "import sys, distill.texts.sources; sys.exit('torch' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


@needs_real_data
def test_real_ms_marco():
    source = MsMarcoTsv(str(REAL_DATA / "msmarco-dl"), holdout=500)
    assert len(source.documents()) == 24_884
    assert len(source.queries("dl19+dl20")) == len(source.qrels("dl19+dl20")) == 97
    assert (len(source.queries("train")), len(source.queries("holdout")), source.removed_from_train) == (13_316, 500, 0)
    assert source.documents().ids.rows(["1722"]).tolist() == [2]


@needs_real_data
def test_real_beir():
    source = Beir(str(REAL_DATA / "medquad"))
    assert len(source.documents()) == 15_809
    assert source.documents()[0].startswith("Adult Acute Lymphoblastic Leukemia Key Points")
    assert (len(source.queries("dev")), len(source.queries("test"))) == (1000, 1500)
    assert len(source.queries("train")) + source.removed_from_train == 12_479


@needs_real_data
def test_real_questions():
    assert len(QueryFile(str(REAL_DATA / "questions" / "queries.tsv")).queries()) == 63_105


def test_packed_judgments_are_not_passed_over(marco):
    (marco / "qrels.train.tsv.gz").write_bytes(b"")
    (marco / "qrels.train.tsv").unlink(missing_ok=True)
    with pytest.raises(BadInput, match=r"qrels\.train\.tsv\.gz: judgments are read unpacked: gunzip it"):
        MsMarcoTsv(str(marco)).qrels("train")


def test_packed_judgments_of_beir_are_not_passed_over(tmp_path):
    """Their queries would silently be trained on."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "text": "a"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "b"}\n{"_id": "r", "text": "c"}\n')
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    assert Beir(str(tmp_path)).splits() == ["train", "dev"]
    (tmp_path / "qrels" / "test.tsv.gz").write_bytes(b"")
    with pytest.raises(BadInput, match=r"test\.tsv\.gz: judgments are read unpacked: gunzip it"):
        Beir(str(tmp_path)).splits()
