"""Every kind of crop is made of its document's words, in their order and at a real query's length."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.generate import Crop
from distill.generate.material import Material
from distill.generate.statistics import measure_statistics
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv
from distill.texts.texts import Texts

DOCUMENT = "The Mute Swan (Cygnus olor) is large. It was brought to North America, in 1876! Its wings beat with a throbbing sound."
PLAIN = "the mute swan cygnus olor is large it was brought to north america in 1876 its wings beat with a throbbing sound"
WORDS = PLAIN.split()
QUERIES = ["how large is a swan", "what is a swan", "how large are wings", "sound of wings", "what is a mute"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> MsMarcoTsv:
    root: Path = tmp_path_factory.mktemp("texts")
    common = "".join(f"{i}\tthe bird is a {name} with wings\n" for i, name in enumerate(["owl", "crow", "finch", "heron"]))
    (root / "collection.tsv").write_text(f"swan\t{DOCUMENT}\nempty\t\n{common}")
    (root / "queries.train.tsv").write_text("".join(f"q{i}\t{query}\n" for i, query in enumerate(QUERIES)))
    return MsMarcoTsv(str(root))


def cut(source: MsMarcoTsv, kind: str, count: int = 300, text: str = DOCUMENT) -> list[list[str]]:
    crop = Crop({kind: 1.0})
    crop.prepare(Material(source, "train"))
    return [query.split() for query in crop.write([text], [count], random.Random(0), lambda done: None)[0]]


def runs_of(words: list[str], size: int) -> list[list[str]]:
    return [words[i : i + size] for i in range(len(words) - size + 1)]


def test_spans_are_as_long_as_real_queries_and_about_words_that_say_something(source):
    found = cut(source, "spans", 1000)
    assert {len(span) for span in found} == {3, 4, 5}
    assert all(span in runs_of(WORDS, len(span)) for span in found)
    holds = {word: sum(word in span for span in found) for word in ("cygnus", "is")}
    assert holds["cygnus"] > holds["is"]  # every document but one has that


def test_questions_begin_as_real_ones_do(source):
    for question in cut(source, "questions"):
        text = " ".join(question)
        opening = next(opening for opening in ("how large is a ", "what is a ", "how large are ", "sound of ") if text.startswith(opening))
        rest = text.removeprefix(opening).split()
        assert rest in runs_of(WORDS, len(rest)) and len(question) <= 5


def test_openings_are_the_common_first_words(source):
    """A query's last word is what it is about; four words are the most that an opening has."""
    assert Material(source, "train").statistics.openings == ["how large is a", "what is a", "how large are", "sound of", "what is a"]


def test_keywords_are_in_the_documents_order(source):
    for keywords in cut(source, "keywords"):
        rest = iter(WORDS)
        assert all(word in rest for word in keywords) and len(keywords) <= 5


def test_titles_sentences_and_snippets(source):
    assert {" ".join(title) for title in cut(source, "titles")} == {"the mute swan", "the mute swan cygnus", "the mute swan cygnus olor"}
    sentences = {" ".join(sentence) for sentence in cut(source, "sentences")}
    assert sentences == {" ".join(WORDS[:7]), " ".join(WORDS[7:15]), " ".join(WORDS[15:])}
    long = " ".join(["one two three four."] * 40)
    assert {len(snippet) for snippet in cut(source, "snippets", 1000, long)} >= {16, 40, 64}


def test_pieces_are_of_every_length_and_spelt_as_in_the_document(source):
    words = [word for number in range(100) for word in f"Number {number} is, as it were, one of many.".split()]
    pieces = cut(source, "pieces", 2000, " ".join(words))
    sizes = [len(piece) for piece in pieces]
    assert min(sizes) == 3 and max(sizes) >= 155
    assert 0.4 < sum(size < 22 for size in sizes) / len(sizes) < 0.6  # the middle of 3 to 160 on a logarithmic scale
    runs = {size: {tuple(run) for run in runs_of(words, size)} for size in set(sizes)}
    lower = [piece for piece in pieces if tuple(piece) not in runs[len(piece)]]
    assert all(piece == [word.lower() for word in piece] for piece in lower) and 0.15 < len(lower) / len(pieces) < 0.3
    assert sum(piece[0] == "Number" for piece in pieces) / len(pieces) > 0.3  # many begin a sentence
    assert [" ".join(piece).lower() for piece in cut(source, "pieces", 3, "Too short")] == ["too short"] * 3


def test_words_are_spelt_as_in_real_queries(source, tmp_path):
    (tmp_path / "collection.tsv").write_text(f"swan\t{DOCUMENT}\n")
    (tmp_path / "queries.train.tsv").write_text("1\tWhat is Cygnus olor?\n2\tHow large is a Swan?\n")
    spelt = {word for span in cut(MsMarcoTsv(str(tmp_path)), "spans") for word in span}
    assert {"Swan", "(Cygnus", "large.", "1876!"} <= spelt
    assert {"swan", "cygnus", "large", "1876"} <= {word for span in cut(source, "spans") for word in span}


def test_an_empty_document_gives_nothing(source):
    assert cut(source, "spans", 5, "") == cut(source, "keywords", 5, "()") == []


def test_unknown_kinds_are_refused():
    with pytest.raises(BadInput, match="kinds: summaries: there are spans"):
        Crop({"summaries": 1.0})


def test_a_word_weighs_as_much_with_a_comma_behind_it(source):
    """Where real queries have punctuation, words of documents keep theirs."""
    crop = Crop({"spans": 1.0})
    crop.prepare(Material(source, "train"))
    crop._statistics = replace(crop._statistics, plain=False)
    document = crop._split("swan, swan (swan) -> unheard")
    weights = np.diff([0.0, *document.weights])
    assert document.words[0] == "swan," and weights[:3] == pytest.approx([weights[0]] * 3)
    assert weights[4] == pytest.approx(crop._statistics.unknown) and weights[4] > weights[0]


@pytest.mark.parametrize("end", ["", "\uff1f"])
@pytest.mark.parametrize("kind", ["spans", "questions", "keywords", "titles", "sentences", "snippets"])
def test_crops_of_a_script_without_spaces_are_as_long_as_queries(kind, end):
    """Twenty sentences without a space, and queries of five to seven characters."""
    sentence = "莱茵河是欧洲的一条大河\uff0c它发源于瑞士的山中\uff0c流入北海\u3002"
    document = "".join(chr(ord("一") + number) + sentence for number in range(20))
    queries = Texts.from_lists(list("abc"), ["莱茵河发源于哪里" + end, "北海在哪里" + end, "瑞士的大河" + end])
    crop = Crop({kind: 1.0})
    crop.set_statistics(measure_statistics(queries, Texts.from_lists(["d"], [document])))
    crops = crop.write([document], [50], random.Random(0), lambda done: None)[0]
    longest = {"sentences": 32, "snippets": 64, "questions": 9}.get(kind, 9)
    assert all(0 < len(text) <= longest and " " not in text for text in crops)
    assert len(set(crops)) > 5 or kind == "titles"
