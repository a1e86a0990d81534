"""Pairs of queries and candidates by hand: which, in which order, how they are found again, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import distill

from distill.encoders.maker import Maker
from distill.records import BadInput
from distill.teachers.candidates import (
    PairTexts,
    find_candidates,
    find_pair_rows,
    open_pair_stores,
    put_positive_first,
    read_scored_candidates,
)
from distill.texts.ids import Ids
from distill.texts.sources import Beir, MsMarcoTsv
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

RUN = """q0 Q0 d0 1 9 run
q0 Q0 d3 2 8 run
q0 Q0 d1 3 7 run
q0 Q0 d2 4 6 run
q1 Q0 d2 1 2 run
q1 Q0 d4 2 1 run
q4 Q0 d0 1 5 run
q4 Q0 d1 2 4 run
q4 Q0 d3 3 3 run
q4 Q0 d2 4 2 run
"""


@pytest.fixture
def source(tmp_path: Path) -> MsMarcoTsv:
    """Five documents and queries; q0 is answered by d3, q2 by d1, q4 by d2, the others are not judged."""
    (tmp_path / "collection.tsv").write_text("".join(f"d{i}\tdocument {i}\n" for i in range(5)))
    (tmp_path / "queries.train.tsv").write_text("".join(f"q{i}\tquery {i}\n" for i in range(5)))
    (tmp_path / "qrels.train.tsv").write_text("q0 0 d3 1\nq2 0 d1 1\nq4 0 d2 1\n")
    return MsMarcoTsv(str(tmp_path))


def pairs(source: MsMarcoTsv, candidates: list[list[int]]) -> PairTexts:
    return PairTexts(source.queries("train"), source.documents(), np.array(candidates))


def test_pairs_go_query_by_query_in_the_order_of_the_candidates(source):
    found = pairs(source, [[3, 0, -1], [-1, -1, -1], [1, -1, 2], [-1, 4, -1], [2, 1, 0]])
    wanted = ["q0\td3", "q0\td0", "q2\td1", "q2\td2", "q3\td4", "q4\td2", "q4\td1", "q4\td0"]
    assert list(found.ids) == wanted and len(found) == 8
    assert found.read(np.array([3, 0, 7])) == [("query 2", "document 2"), ("query 0", "document 3"), ("query 4", "document 0")]
    assert found.read([4]) == [("query 3", "document 4")]


def test_a_pair_that_comes_twice_is_refused(source):
    with pytest.raises(BadInput, match="query 'q1' has the document 'd1' twice"):
        pairs(source, [[1, 0], [1, 1], [0, 1], [0, 1], [0, 1]])


def test_the_fingerprint_is_that_of_both_texts(source, tmp_path):
    before = pairs(source, [[0]] * 5).fingerprints("query")
    assert pairs(source, [[4]] * 5).fingerprints("query") == before  # the ids of a store tell its candidates
    for name in ("collection.tsv", "queries.train.tsv"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace(" 4\n", " four\n"))
        assert not {*pairs(MsMarcoTsv(str(tmp_path)), [[0]] * 5).fingerprints("query")} & {*before}
        (tmp_path / name).write_text(text)


def test_the_positive_leads_and_the_others_keep_their_order():
    top = np.array([[4, 7, 5], [7, 4, 5], [4, 5, 7], [4, 5, 6], [4, -1, -1], [-1, -1, -1]])
    wanted = [[7, 4, 5], [7, 4, 5], [7, 4, 5], [7, 4, 5], [7, 4, -1], [7, -1, -1]]
    assert put_positive_first(np.full(6, 7), top).tolist() == wanted
    assert put_positive_first(np.full(6, -1), top).tolist() == top.tolist()


# where candidates come from


def test_candidates_of_a_run_file(source, tmp_path):
    (tmp_path / "run.trec").write_text(RUN)
    found = find_candidates(str(tmp_path / "run.trec"), source, "train", 3)
    assert found.tolist() == [[3, 0, 1], [2, 4, -1], [1, -1, -1], [-1, -1, -1], [2, 0, 1]]


def mined(path: Path, lines: dict[str, list[str]]) -> Path:
    records = [{"query": query, "positive": documents[0], "negatives": documents[1:]} for query, documents in lines.items()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("folder", [False, True])
def test_candidates_of_mined_negatives(folder, source, tmp_path):
    path = mined(tmp_path / "negatives.jsonl", {"q4": ["d2"], "q0": ["d3", "d1", "d4", "d0"]})
    found = find_candidates(str(tmp_path if folder else path), source, "train", 3)
    nothing = [-1, -1, -1]
    assert found.tolist() == [[3, 1, 4], nothing, nothing, nothing, [2, -1, -1]]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"q0": ["d3", "nowhere"]}, "line 1: document 'nowhere' is not in the corpus"),
        ({"other": ["d3", "d1"]}, "none of its queries is in the split 'train'"),
    ],
)
def test_mined_negatives_of_other_texts_are_refused(lines, words, source, tmp_path):
    with pytest.raises(BadInput, match=words):
        find_candidates(str(mined(tmp_path / "n.jsonl", lines)), source, "train", 3)


def test_a_query_on_two_mined_lines_is_refused(source, tmp_path):
    path = mined(tmp_path / "n.jsonl", {"q0": ["d3", "d1"]})
    path.write_text(path.read_text() * 2)
    with pytest.raises(BadInput, match=r"n\.jsonl: query 'q0' has several lines: keep one"):
        find_candidates(str(path), source, "train", 3)


def test_a_file_that_is_not_there_is_named(source, tmp_path):
    for name in ("none.jsonl", "none.trec"):
        with pytest.raises(BadInput, match=name):
            find_candidates(str(tmp_path / name), source, "train", 3)


def imported(store: Path, out: Path) -> Path:
    """The same vectors as another program has them, the documents in reverse."""
    for part, options in (("documents", ["--name", "elsewhere"]), ("queries-train", ["--queries", "train"])):
        vectors = VectorStore(store / part)
        rows = np.arange(len(vectors))[:: -1 if part == "documents" else 1]
        np.save(out / "v.npy", vectors[:][rows].astype(np.float32))
        (out / "i.txt").write_text("".join(f"{vectors.ids[row]}\n" for row in rows))
        assert distill("import", "--vectors", out / "v.npy", "--ids", out / "i.txt", *options, "--out", out / "store") == 0
    return out / "store"


@pytest.mark.parametrize("by", ["encoded", "imported"])
def test_candidates_of_a_store_are_its_top_behind_the_positive(by, source_root, store_folder, tmp_path):
    small = MsMarcoTsv(str(source_root))
    store = store_folder if by == "encoded" else imported(store_folder, tmp_path)
    found = find_candidates(str(store), small, "train", 4)
    documents = VectorStore(store_folder / "documents")[:].astype(np.float64)
    queries, ids = VectorStore(store_folder / "queries-train"), small.documents().ids
    for row, query in enumerate(small.queries("train").ids):
        positive = int(ids.rows(list(small.qrels("train").judgments[query])[:1])[0])
        scores = documents @ queries[:][int(queries.ids.rows([query])[0])].astype(np.float64)
        top = [document for document in np.argsort(-scores, kind="stable") if document != positive]
        assert found[row].tolist() == [positive, *top][:4]


# stores of pairs


def written(folder: Path, ids: list[str], maker: str = "m", texts: str = "t") -> VectorStore:
    writer = StoreWriter(folder, Ids.of(ids), 1, Maker(maker, maker), texts)
    writer.write_shard(0, np.arange(len(ids), dtype=np.float32)[:, None])
    writer.finish()
    return VectorStore(folder)


def test_rows_that_are_no_score_and_no_vectors_beside_it_are_refused(source, tmp_path):
    writer = StoreWriter(tmp_path / "pairs-train", Ids.of(["a\tb"]), 2, Maker("m", "m"), "t")
    writer.write_shard(0, np.zeros((1, 2), np.float32))
    writer.finish()
    with pytest.raises(BadInput, match="pairs-train: 2 numbers a pair: not a score, or a score and two vectors: encode it again"):
        open_pair_stores(str(tmp_path), source, "train")


ODD = ["b c", "ä", "日本", 'quo"te', "7#2", "a", "é" * 40, "."]


def test_odd_ids_are_found_again(tmp_path):
    ids = [f"{query}\t{document}" for query in ODD for document in ODD[:3]]
    store = written(tmp_path / "pairs-train", ids)
    assert read_scored_candidates(store, 3) == dict.fromkeys(ODD, ODD[:3])
    order = [2, 0, 7]
    rows = find_pair_rows(store, [ODD[i] for i in order], [ODD[:3][::-1] for _ in order])
    assert rows.tolist() == [8, 7, 6, 2, 1, 0, 23, 22, 21]


def test_odd_ids_make_pairs(tmp_path):
    (tmp_path / "qrels").mkdir()
    for name, count in (("corpus", 3), ("queries", 8)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"_id": id_, "text": f"of {id_}"}) + "\n" for id_ in ODD[:count]))
    source = Beir(str(tmp_path))
    found = PairTexts(source.queries("train"), source.documents(), np.array([[2, 0]] * 8))
    assert list(found.ids) == [f"{query}\t{document}" for query in ODD for document in (ODD[2], ODD[0])]
    assert found.read([5]) == [("of 日本", "of b c")]


@pytest.mark.parametrize("where", ["corpus", "queries"])
def test_an_id_with_a_tab_is_refused(where, tmp_path):
    (tmp_path / "qrels").mkdir()
    for name in ("corpus", "queries"):
        id_ = "x\ty" if name == where else "x"
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"_id": id_, "text": "words"}) + "\n")
    source = Beir(str(tmp_path))
    with pytest.raises(BadInput, match=r"the id 'x\\ty' has a tab"):
        PairTexts(source.queries("train"), source.documents(), np.array([[0]]))


def test_the_first_scored_documents_of_queries_that_have_so_many(tmp_path):
    store = written(tmp_path / "pairs-train", ["a\td1", "a\td2", "b\td9", "c\td3", "c\td1", "c\td2"])
    assert read_scored_candidates(store, 1) == {"a": ["d1"], "b": ["d9"], "c": ["d3"]}
    assert read_scored_candidates(store, 2) == {"a": ["d1", "d2"], "c": ["d3", "d1"]}
    assert read_scored_candidates(store, 4) == {}


def test_an_unscored_pair_is_refused_by_name(tmp_path):
    store = written(tmp_path / "pairs-train", ["a\td1", "a\td2", "ab\td1"])
    assert find_pair_rows(store, ["ab", "a"], [["d1"], ["d2"]]).tolist() == [2, 1]
    with pytest.raises(BadInput, match=r"pairs-train: no score of query 'ab' and document 'd2': encode the same candidates"):
        find_pair_rows(store, ["a", "ab"], [["d1", "d2"], ["d1", "d2"]])


def test_stores_of_a_split_in_parts_belong_together(source, tmp_path):
    (tmp_path / "queries.more.tsv").write_text("m0\tanother query\n")
    queries = {part: source.queries(part) for part in ("train", "more")}
    made = {part: PairTexts(own, source.documents(), np.zeros((len(own), 1), np.int64)) for part, own in queries.items()}
    for part, texts in made.items():
        for name in ("a", "b"):
            written(tmp_path / name / f"pairs-{part}", list(texts.ids), maker=name, texts=texts.fingerprints("query")[0])
    assert [store.folder.name for store in open_pair_stores(str(tmp_path / "a"), source, "more+train")] == ["pairs-more", "pairs-train"]
    (tmp_path / "b" / "pairs-more").rename(tmp_path / "b" / "aside")
    (tmp_path / "a" / "pairs-more").rename(tmp_path / "b" / "pairs-more")
    with pytest.raises(BadInput, match=r"pairs-more: by another cross encoder than .*pairs-train"):
        open_pair_stores(str(tmp_path / "b"), source, "train+more")
    with pytest.raises(BadInput, match="no vector store: run distill encode"):
        open_pair_stores(str(tmp_path / "a"), source, "more")
    with open(tmp_path / "collection.tsv", "a") as file:
        file.write("d5\tone more\n")
    with pytest.raises(BadInput, match="not of the pairs of 'train' as they are now"):
        open_pair_stores(str(tmp_path / "a"), MsMarcoTsv(str(tmp_path)), "train")
