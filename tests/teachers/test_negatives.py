"""Where pools of negatives come from: chance, a teacher's ranking, a file of mined ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TOPICS

from distill.files.configs import from_config, to_config
from distill.records import BadInput
from distill.teachers.mined import MinedQuery, read_mined_lines
from distill.teachers.negatives import JudgedQueries, MinedNegatives, Negatives, RandomNegatives, TopNegatives
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import TeacherStore


def labelled(root: Path, judgments: dict[str, dict[str, int]] | None = None) -> JudgedQueries:
    source = MsMarcoTsv(str(root))
    qrels = source.qrels("train") if judgments is None else Qrels(judgments)
    assert qrels is not None
    return JudgedQueries(source, "train", source.queries("train"), qrels, source.documents().ids)


def test_every_judged_pair_of_the_grade_is_an_example(source_root):
    judged = labelled(source_root, {"train0": {"d3": 2, "d5": 1, "d7": 0}, "train2": {"d1": 2, "gone": 2}})
    judged.source.relevant_from = 2
    queries = judged.queries.ids.rows(["train0", "train2"])
    examples = RandomNegatives().select_pairs(judged)
    assert (examples.queries.tolist(), examples.positives.tolist()) == (queries.tolist(), [3, 1])
    assert examples.pools.shape == (2, 0)
    known = judged.relevant_pairs(1)
    assert list(zip(*map(np.ndarray.tolist, known), strict=True)) == [(queries[0], 3), (queries[0], 5), (queries[1], 1)]


def test_top_negatives_are_the_stored_teachers_ranking(source_root, store_folder):
    judged = labelled(source_root)
    examples = TopNegatives(str(store_folder), skip=2, depth=12).select_pairs(judged)
    store = TeacherStore(store_folder)
    queries = store.queries("train", judged.source.queries("train").fingerprints("query"))
    vectors = queries.take(queries.ids.rows(list(judged.queries.ids))).astype(np.float64)
    ranked = np.argsort(-(vectors @ store.documents[:].astype(np.float64).T), axis=1, kind="stable")
    assert examples.pools.shape[1] == 10
    assert np.mean(examples.pools == ranked[examples.queries, 2:12]) > 0.99  # equal scores in float32 may change places
    assert TopNegatives(str(store_folder)).fingerprint() == store.maker.fingerprint
    with pytest.raises(BadInput, match="skip 5 must be at least 0 and below depth 5"):
        TopNegatives(str(store_folder), skip=5, depth=5)


def mined(path: Path, *lines: dict) -> Negatives:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return MinedNegatives(str(path))


def test_a_mined_file_is_read_line_by_line(source_root, tmp_path):
    judged = labelled(source_root)
    first, second = judged.queries.ids[0], judged.queries.ids[4]
    lines = [
        {"query": second, "positive": "d7", "negatives": ["d1"]},
        {"query": first, "positive": "d2", "negatives": ["d5", "d6", "d9"]},
        {"query": "another split's", "positive": "d2", "negatives": []},
    ]
    examples = mined(tmp_path / "mined.jsonl", *lines).select_pairs(judged)
    assert (examples.queries.tolist(), examples.positives.tolist()) == ([4, 0], [7, 2])
    assert examples.pools.tolist() == [[1, -1, -1], [5, 6, 9]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"query": "train0", "positive": "d1"}', 'line 1 is not {"query": id'),
        ('{"query": "train0", "positive": "d1", "negatives": ["d2", "d999"]}', "line 1: document 'd999' is not in the corpus"),
        (
            '{"query": "train0", "positive": "d1", "negatives": []}\n{"query": "train0", "positive": "x", "negatives": []}',
            "line 2: document",
        ),
        ('{"query": "stranger", "positive": "d1", "negatives": []}', "none of its queries is in the split 'train'"),
        ("[1]", "line 1 is not"),
        ("", "the file is empty"),
    ],
)
def test_a_mined_file_that_cannot_be_read_is_refused(text, words, source_root, tmp_path):
    (tmp_path / "mined.jsonl").write_text(text)
    with pytest.raises(BadInput) as error:
        MinedNegatives(str(tmp_path / "mined.jsonl")).select_pairs(labelled(source_root))
    assert words in str(error.value) and "mined.jsonl" in str(error.value)


def test_the_fingerprint_is_the_files(tmp_path):
    one = mined(tmp_path / "a.jsonl", {"query": "q", "positive": "d", "negatives": []})
    other = mined(tmp_path / "b.jsonl", {"query": "q", "positive": "e", "negatives": []})
    assert one.fingerprint() != other.fingerprint()
    with pytest.raises(BadInput, match="no such file"):
        MinedNegatives(str(tmp_path / "c.jsonl"))


def test_scores_may_be_left_out_but_not_in_part(tmp_path):
    path = tmp_path / "mined.jsonl"
    path.write_text('{"query": "q", "positive": "d", "negatives": ["e", "f"], "scores": [2, 1.5], "positive_score": 3}\n')
    assert next(read_mined_lines(path)) == MinedQuery("q", "d", 3.0, ["e", "f"], [2.0, 1.5])
    for wrong in ('"negatives": ["e", "f"], "scores": [2]', '"negatives": "e"', '"negatives": ["e"], "scores": ["high"]'):
        path.write_text(f'{{"query": "q", "positive": "d", {wrong}}}\n')
        with pytest.raises(BadInput, match="line 1 is not"):
            list(read_mined_lines(path))


def test_a_configuration_names_them(tmp_path):
    path = mined(tmp_path / "a.jsonl", {"query": "q", "positive": "d", "negatives": []}).path
    for made in (RandomNegatives(), TopNegatives("store", skip=1), MinedNegatives(path)):
        again = from_config(to_config(made))
        assert type(again) is type(made) and again.init_args == made.init_args


def test_ids_and_topics_are_those_of_the_small_world(source_root):
    """The other tests read rows off names: document i is d{i}."""
    assert list(MsMarcoTsv(str(source_root)).documents().ids)[:3] == ["d0", "d1", "d2"] and len(TOPICS) == 10
    assert isinstance(labelled(source_root).corpus, Ids)
