"""Each kind of corruption by hand, and what all of them leave alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from distill.generate import Noise
from distill.generate.material import Material
from distill.generate.noise import NEIGHBOURS, mistype
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv

QUERY = "how do bees find their way home again"


def made(source_root, count=300, **settings) -> list[str]:
    noise = Noise(**settings)
    noise.prepare(Material(MsMarcoTsv(str(source_root)), "train"))
    return noise.write([QUERY], [count], random.Random(0), lambda done: None)[0]


def test_deletion_takes_words_and_keeps_their_order(source_root):
    for text in made(source_root, kinds={"delete": 1}, rate=0.25, most_changes=1):
        words = text.split()
        assert len(words) == 6  # a quarter of eight is gone
        rest = iter(QUERY.split())
        assert all(word in rest for word in words)


def test_infilling_brings_words_of_the_corpus(source_root):
    corpus = {word for line in (source_root / "collection.tsv").read_text().splitlines() for word in line.split("\t")[1].split()}
    for text in made(source_root, kinds={"infill": 1}, most_changes=1):
        new = [word for word in text.split() if word not in QUERY.split()]
        assert len(new) <= 1 and set(new) <= corpus
        assert 6 <= len(text.split()) <= 9  # one word in the place of none to three


def test_permutation_keeps_the_words(source_root):
    texts = made(source_root, kinds={"permute": 1})
    assert all(sorted(text.split()) == sorted(QUERY.split()) for text in texts) and len(set(texts)) > 50


def test_truncation_is_what_a_reader_of_keys_sees(source_root):
    texts = made(source_root, kinds={"truncate": 1}, most_changes=1)
    assert all(QUERY.startswith(text) and len(QUERY) / 2 - 2 <= len(text) < len(QUERY) for text in texts)
    assert len({len(text) for text in texts}) > 10


def test_typos_are_one_slip_of_a_finger():
    found = {mistype("cat", random.Random(seed)) for seed in range(400)}
    doubled, left_out, swapped = {"ccat", "caat", "catt"}, {"at", "ct", "ca"}, {"act", "cta"}
    beside = {"xat", "vat", "cst", "car", "cay"}
    assert found == doubled | left_out | swapped | beside
    assert NEIGHBOURS["a"] == "s" and NEIGHBOURS["g"] == "fh"


def test_kinds_come_as_often_as_they_are_asked_for(source_root):
    texts = made(source_root, 2000, kinds={"permute": 3, "truncate": 1}, most_changes=1)
    lengths = Counter(sorted(text.split()) == sorted(QUERY.split()) for text in texts)
    assert 0.7 < lengths[True] / 2000 < 0.8


def test_one_word_survives_everything(source_root):
    noise = Noise()
    noise.prepare(Material(MsMarcoTsv(str(source_root)), "train"))
    for text in noise.write(["a"], [500], random.Random(1), lambda done: None)[0]:
        assert text.strip()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"kinds": {"spell": 1}}, "there are delete"), ({"kinds": {}}, "one is above 0"), ({"rate": 0}, "rate"), ({"most_changes": 0}, "1")],
)
def test_settings_that_make_nothing_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        Noise(**settings)
