"""Which queries are trained on, in which order, and how many of each set an epoch has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.data.loaders import Draw
from distill.data.training_queries import TrainingQueries, keep_scored_queries, refuse_shared_names
from distill.records import BadInput
from distill.teachers.open_stored import QuerySet
from distill.texts.sources import MsMarcoTsv
from distill.texts.texts import Texts


def queries_of(name: str, *ids: str) -> QuerySet:
    """A set whose texts are `ID words`."""
    texts = Texts.from_lists(list(ids), [f"{id_} words" for id_ in ids], name)
    return QuerySet(texts, texts.fingerprints("query"))


QUERIES = TrainingQueries([queries_of("one", "a", "b"), queries_of("two", "c")], [queries_of("more", "d", "e", "f")], removed=0)


def test_rows_count_through_all_sets():
    assert len(QUERIES) == 6 and QUERIES.split_size == 3 and QUERIES.split_ids() == ["a", "b", "c"]
    assert QUERIES.read(np.array([5, 0, 2, 3])) == ["f words", "a words", "c words", "d words"]


def test_a_share_is_of_the_queries_of_the_splits():
    assert QUERIES.count_draws({}, ["more.tsv"]) == [Draw(2, 2), Draw(1, 1), Draw(3, 3)]
    assert QUERIES.count_draws({"more.tsv": 0.5}, ["more.tsv"]) == [Draw(2, 2), Draw(1, 1), Draw(3, 2)]  # half of 3, to the even number
    assert QUERIES.count_draws({"more.tsv": 3.0}, ["more.tsv"])[-1] == Draw(3, 9)


def test_a_file_of_which_nothing_is_left_is_not_drawn_from():
    whole = queries_of("more", "d")
    nothing = TrainingQueries(QUERIES.splits, [QuerySet(whole.texts.subset([]), whole.fingerprints)], removed=1)
    assert nothing.count_draws({"more.tsv": 1.0}, ["more.tsv"])[-1] == Draw(0, 0)


def test_queries_that_a_cross_encoder_has_not_read_are_left_out():
    texts = queries_of("one", "a", "b", "c").texts
    assert list(keep_scored_queries(texts, "train", {"c": ["d1"], "a": ["d2"]}, candidates=1).ids) == ["a", "c"]
    with pytest.raises(
        BadInput, match=r"data\.candidates: train: 3 queries left out, of which fewer than 4 documents were read: none is left"
    ):
        keep_scored_queries(texts, "train", {}, candidates=4)


def test_two_sets_of_one_name_are_refused():
    with pytest.raises(BadInput, match="query sets one, two, one: two of them share a name"):
        refuse_shared_names([*QUERIES.splits, queries_of("one", "x")])


def test_ids_of_which_some_repeat_are_no_names_of_queries(source_root: Path) -> None:
    """As in the files of doc2query, where each query has the id of the document that it was generated from."""
    source = MsMarcoTsv(str(source_root))
    corpus = source.documents().ids
    named, generated = queries_of("named", "d3", "x"), queries_of("generated", "d1", "d1#2", "d2")
    own = TrainingQueries([queries_of("train", "a")], [named, generated], removed=0).own_documents(source, corpus)
    assert own is not None and own.tolist() == [-1, 3, -1, -1, -1, -1]
    assert TrainingQueries([queries_of("train", "a")], [generated], removed=0).own_documents(source, corpus) is None
