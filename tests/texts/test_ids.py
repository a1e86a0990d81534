import random

import numpy as np
import pytest

from distill.texts.ids import Ids


def test_ids_by_row_and_rows_by_id():
    ids = Ids.of(["7", "12", "doc-é", "1"])
    assert len(ids) == 4
    assert list(ids) == ["7", "12", "doc-é", "1"]
    assert ids.rows(["1", "doc-é", "none", "7"]).tolist() == [3, 2, -1, 0]
    assert ids.rows(["1"]).dtype == np.int64


def test_a_longer_id_does_not_match_by_its_beginning():
    ids = Ids.of(["abc", "abd"])
    assert ids.rows(["abcd", "abc", "ab", "", "abc\0"]).tolist() == [-1, 0, -1, -1, -1]


def test_nothing_asked_and_nothing_known():
    assert Ids.of([]).rows(["a"]).tolist() == [-1]
    assert Ids.of(["a"]).rows([]).tolist() == []
    assert Ids.of([]).first_duplicate() is None
    assert len(Ids.of([]).with_numbered_repeats()) == 0


@pytest.mark.parametrize("longest", [3, 8, 9, 30])
def test_random_ids_agree_with_a_dict(longest):
    rng = random.Random(longest)
    words = ["".join(rng.choices("ab01é-", k=rng.randint(1, longest))) for _ in range(3000)]
    known = list(dict.fromkeys(words[:1500]))
    row_of = {id_: row for row, id_ in enumerate(known)}
    ids = Ids.of(known)
    assert ids.rows(words).tolist() == [row_of.get(id_, -1) for id_ in words]
    assert [ids[row] for row in ids.order] == sorted(known, key=str.encode)


def test_a_stored_order_and_a_memory_map_are_used_as_they_are(tmp_path):
    np.save(tmp_path / "ids.npy", Ids.of(["b", "c", "a"]).raw)
    ids = Ids(np.load(tmp_path / "ids.npy", mmap_mode="r"), order=np.array([2, 0, 1]))
    assert isinstance(ids.raw, np.memmap)
    assert ids.rows(["a", "b", "c"]).tolist() == [2, 0, 1]


def test_first_duplicate_is_the_one_noticed_first_when_reading():
    ids = Ids.of(["z", "b", "a", "b", "a", "b"])
    assert ids.first_duplicate() == "b"
    assert ids.first_duplicate_rows() == (1, 3)
    assert ids.rows(["b"]).tolist() == [1]
    assert Ids.of(["a", "b"]).first_duplicate() is None


def test_numbered_ids_are_unique():
    assert list(Ids.of(["b", "a", "b", "longer id", "b", "a"]).with_numbered_repeats()) == ["b", "a", "b#2", "longer id", "b#3", "a#2"]


def test_ids_that_are_not_fixed_width_bytes_are_refused():
    with pytest.raises(TypeError, match="fixed-width bytes, not int64"):
        Ids(np.arange(3))
