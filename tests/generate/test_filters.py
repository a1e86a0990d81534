"""What is dropped and why, by hand; near duplicates against their true similarity."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from distill.generate.filters import Filters, RealQueries, find_drop_reasons, find_duplicates, split_words
from distill.generate.minhash import find_near_duplicates, minhash_signatures
from distill.generate.statistics import WORD
from distill.records import BadInput
from distill.texts.texts import Texts


def texts(path: Path, lines: list[str]) -> Texts:
    path.write_text("".join(f"{i}\t{line}\n" for i, line in enumerate(lines)))
    return Texts.open(path)


@pytest.fixture
def known(tmp_path: Path) -> RealQueries:
    evaluation = texts(tmp_path / "test.tsv", ["Who was J. S. Bach?", "naïve bayes"])
    return RealQueries([evaluation], texts(tmp_path / "train.tsv", ["how old is the sun"]))


def test_reasons_by_hand(known):
    given = {
        "how old is the moon": None,
        "who was j s bach": "evaluation query",
        "Bach, J.S.: who was?": "evaluation query",  # the same words in another order
        "NAÏVE   Bayes!": "evaluation query",
        "nai\u0308ve_bayes": "evaluation query",  # the same letters written another way
        "whowas J.S.-Bach": "evaluation query",  # and spaced another way
        "who was bach": None,
        "How old is the sun?": "real query",
        "is the sun old how": None,  # in another order it is a new query of a text that is trained on
        "alone": "length",
        "one two three four five six seven": "length",
        "a b !!!!!!!!": "letters",
        "?!": "length",
    }
    reasons, _ = find_drop_reasons(list(given), Filters(least_words=2, most_words=6), known)
    assert dict(zip(given, reasons, strict=True)) == given


def test_duplicates_are_of_the_same_words_in_order(known):
    _, keys = find_drop_reasons(["red car", "Red  car!", "car red", "red car"], Filters(), known)
    assert find_duplicates(keys).tolist() == [False, True, False, True]


def pieces(text: str) -> set[str]:
    return {text[i : i + 4] for i in range(len(text) - 3)}


def jaccard(one: str, other: str) -> float:
    return len(pieces(one) & pieces(other)) / len(pieces(one) | pieces(other))


def test_minhash_estimates_the_jaccard_similarity():
    pairs = [("where do swans live in winter", "where do swans live in winters"), ("how to bake bread", "how to bake good bread")]
    pairs += [("where do swans live", "price of a new car"), ("ab", "ab"), ("abc", "abd")]
    pairs += [("美国对中国出口", "中国对美国出口"), ("รถไฟจากกรุงเทพไปเชียงใหม่", "รถไฟจากเชียงใหม่ไปกรุงเทพ")]
    pairs += [("где живут лебеди зимой", "где зимой живут лебеди"), ("𠀀𠀁𠀂𠀃𠀄", "𠀀𠀁𠀂𠀃𠀅")]
    for one, other in pairs:
        found = minhash_signatures([one, other])
        estimate = (found[0] == found[1]).mean()
        true = jaccard(one.ljust(4), other.ljust(4))
        assert estimate == pytest.approx(true, abs=0.15), (one, other)
    assert minhash_signatures([]).shape == (0, 64)


def test_a_texts_signature_does_not_depend_on_its_neighbours():
    given = ["where do swans live", "a", "how to bake bread", "é"]
    together = minhash_signatures(given)
    np.testing.assert_array_equal(together, np.concatenate([minhash_signatures([text]) for text in given]))


def test_near_duplicates_leave_the_first():
    given = ["where do mute swans live in the winter", "price of a new car", "where do mute swans live in the winters"]
    given += ["price of a used car in germany", "where do mute swans live in the winter?"]
    assert find_near_duplicates(minhash_signatures(given), 0.8).tolist() == [False, False, True, False, True]
    assert not find_near_duplicates(minhash_signatures(given[:2]), 0.1).any()


@pytest.mark.parametrize("similarity", [0.35, 0.5, 0.8])
def test_near_duplicates_of_that_similarity_are_found(similarity):
    """Pairs of random words, of which some are shared; those that are clearly above the least similarity are found."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 7)) for _ in range(3000)]
    found = total = 0
    for _ in range(300):
        drawn = random.choice(words, 24, replace=False).tolist()
        shared = int(random.integers(4, 13))
        one, other = " ".join(drawn[:12]), " ".join(drawn[:shared] + drawn[12 : 24 - shared])
        if jaccard(one, other) >= similarity + 0.1:
            total += 1
            found += find_near_duplicates(minhash_signatures([one, other]), similarity)[1]
    assert total > 30 and found / total > 0.85


def test_characters_count_as_words_where_a_script_has_no_spaces(known):
    reasons, _ = find_drop_reasons(["莱茵河发源于哪里", "莱" * 65, "莱茵"], Filters(least_words=3), known)
    assert reasons == [None, "length", "length"]


@pytest.mark.parametrize("settings", [{"least_words": 0}, {"least_words": 9, "most_words": 8}, {"near_duplicates": 0.2}, {"round_trip": 0}])
def test_filters_that_make_no_sense_are_refused(settings):
    with pytest.raises(BadInput, match="filters"):
        Filters(**settings)


def test_marks_belong_to_their_words():
    """Vowels of Hindi, and accents that stand behind their letter, as files of macOS and PDFs have them."""
    assert split_words("हिन्दी भारत की") == ["हिन्दी", "भारत", "की"]
    assert split_words("काल") != split_words("कल")
    assert split_words("pizza in rome ❤️") == ["pizza", "in", "rome"] and split_words("☀️ ✈️") == [] and split_words("a_b") == ["a", "b"]
    apart = unicodedata.normalize("NFD", "Le café du théâtre")
    assert WORD.findall(apart) == apart.split()


@pytest.mark.parametrize(("query", "text"), [("best pizza", "best pizza ❤️"), ("كتب الطبخ", "كُتُب الطبخ"), ("שלום עולם", "שָׁלוֹם עולם")])
def test_pictures_and_vowel_points_hide_no_evaluation_query(query, text):
    for known, generated in ((query, text), (text, query)):
        assert RealQueries([[known]], []).is_evaluation_query(split_words(generated))
