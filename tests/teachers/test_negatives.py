"""Examples and their negatives by hand: never a known positive, others every epoch, the same whoever draws them."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import TOPICS

from distill.data.negative_sampling import NegativeSampler
from distill.records import BadInput
from distill.teachers.negatives import JudgedQueries, MinedNegatives, Negatives, RandomNegatives, TopNegatives, TrainingPairs
from distill.texts.ids import Ids
from distill.texts.qrels import Qrels
from distill.texts.sources import MsMarcoTsv
from distill.vectors.store import TeacherStore


def labelled(root: Path, judgments: dict[str, dict[str, int]] | None = None) -> JudgedQueries:
    source = MsMarcoTsv(str(root))
    qrels = source.qrels("train") if judgments is None else Qrels(judgments)
    assert qrels is not None
    return JudgedQueries(source, "train", source.queries("train"), qrels, source.documents().ids)


def draw(examples: TrainingPairs, known: list[tuple[int, int]], documents: int, count: int, seed: int = 0) -> NegativeSampler:
    queries, rows = (np.array(side, np.int64) for side in zip(*known, strict=True))
    return NegativeSampler(examples, (queries, rows), documents, count, seed)


def test_every_judged_pair_of_the_grade_is_an_example(source_root):
    judged = labelled(source_root, {"train0": {"d3": 2, "d5": 1, "d7": 0}, "train2": {"d1": 2, "gone": 2}})
    judged.source.relevant_from = 2
    queries = judged.queries.ids.rows(["train0", "train2"])
    examples = RandomNegatives().examples(judged)
    assert (examples.queries.tolist(), examples.positives.tolist()) == (queries.tolist(), [3, 1])
    assert examples.pools.shape == (2, 0)
    known = judged.pairs(1)
    assert list(zip(*map(np.ndarray.tolist, known), strict=True)) == [(queries[0], 3), (queries[0], 5), (queries[1], 1)]


def test_pools_lose_known_positives_and_are_drawn_first():
    examples = TrainingPairs(np.array([0, 0, 1]), np.array([3, 4, 5]), np.array([[4, 3, 7, 8], [3, 4, 7, -1], [3, 9, -1, -1]]))
    drawer = draw(examples, [(0, 3), (0, 4), (1, 5)], documents=10, count=2)
    assert drawer.pools.tolist() == [[-1, -1, 7, 8], [-1, -1, 7, -1], [3, 9, -1, -1]]
    for epoch in range(20):
        rows = drawer.candidates(np.array([0, 1, 2]), epoch)
        assert rows[:, 0].tolist() == [3, 4, 5]
        assert set(rows[0, 1:]) == {7, 8} and set(rows[2, 1:]) == {3, 9}
        assert rows[1, 1] == 7 and rows[1, 2] not in (3, 4, 7)


def test_all_that_is_relevant_to_a_query_travels_with_it():
    examples = TrainingPairs(np.array([0, 2, 0]), np.array([3, 5, 4]), np.empty((3, 0), np.int64))
    drawer = draw(examples, [(0, 4), (0, 3), (0, 9), (2, 1)], documents=10, count=1)
    # an example's own positive is known even where no judgment says so, as in a file of mined negatives
    assert drawer.relevant.rows_for(np.array([2, 0, 1])).tolist() == [[1, 5, -1], [3, 4, 9], [-1, -1, -1]]
    assert drawer.relevant.rows_for(np.array([1])).tolist() == [[-1, -1, -1]]  # as wide on every rank


def test_random_negatives_are_every_other_document_and_differ_by_epoch():
    examples = TrainingPairs(np.array([0]), np.array([2]), np.empty((1, 0), np.int64))
    drawer = draw(examples, [(0, 2), (0, 6)], documents=8, count=3)
    drawn = [drawer.candidates(np.array([0]), epoch)[0, 1:].tolist() for epoch in range(60)]
    assert all(len(set(rows)) == 3 for rows in drawn)
    assert {row for rows in drawn for row in rows} == {0, 1, 3, 4, 5, 7}
    assert len({tuple(rows) for rows in drawn}) > 20


def test_a_draw_depends_on_seed_epoch_and_example_alone():
    examples = TrainingPairs(np.arange(6), np.arange(6), np.empty((6, 0), np.int64))
    drawer, again, other = (draw(examples, [(0, 0)], 50, 4, seed) for seed in (0, 0, 1))
    together = drawer.candidates(np.arange(6), 3)
    assert np.array_equal(np.concatenate([again.candidates(np.array([i]), 3) for i in (5, 3, 1)]), together[[5, 3, 1]])
    assert not np.array_equal(other.candidates(np.arange(6), 3), together)


def test_a_corpus_too_small_is_refused():
    examples = TrainingPairs(np.array([0]), np.array([2]), np.empty((1, 0), np.int64))
    with pytest.raises(BadInput, match="negatives_per_query: 3, but the corpus has 4 documents, up to 2 of them relevant"):
        draw(examples, [(0, 2), (0, 3)], documents=4, count=3)


def test_no_negatives_is_a_choice_too():
    examples = TrainingPairs(np.array([0, 1]), np.array([2, 0]), np.empty((2, 0), np.int64))
    assert draw(examples, [(0, 2)], 3, 0).candidates(np.array([1, 0]), 0).tolist() == [[0], [2]]


def test_top_negatives_are_the_stored_teachers_ranking(source_root, store_folder):
    judged = labelled(source_root)
    examples = TopNegatives(str(store_folder), skip=2, depth=12).examples(judged)
    store = TeacherStore(store_folder)
    queries = store.queries("train", judged.source.queries("train").fingerprint)
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
    examples = mined(tmp_path / "mined.jsonl", *lines).examples(judged)
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
        MinedNegatives(str(tmp_path / "mined.jsonl")).examples(labelled(source_root))
    assert words in str(error.value) and "mined.jsonl" in str(error.value)


def test_the_fingerprint_is_the_files(tmp_path):
    one = mined(tmp_path / "a.jsonl", {"query": "q", "positive": "d", "negatives": []})
    other = mined(tmp_path / "b.jsonl", {"query": "q", "positive": "e", "negatives": []})
    assert one.fingerprint() != other.fingerprint()
    with pytest.raises(BadInput, match="no such file"):
        MinedNegatives(str(tmp_path / "c.jsonl"))


def test_ids_and_topics_are_those_of_the_small_world(source_root):
    """The other tests read rows off names: document i is d{i}."""
    assert list(MsMarcoTsv(str(source_root)).documents().ids)[:3] == ["d0", "d1", "d2"] and len(TOPICS) == 10
    assert isinstance(labelled(source_root).corpus, Ids)
