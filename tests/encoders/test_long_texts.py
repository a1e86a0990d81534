"""A long text is cut before its tokenizer reads it: its first tokens are those of the whole, whatever tokenizer and text."""

import math
import random
import time

import pytest
import torch
from families import make_cross, make_encoder
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from distill.encoders import long_texts
from distill.encoders.long_texts import cut_long_texts, splits_before_marks

WORDS = [
    "the",
    "river",
    "Garden",
    "isn't",
    "it'll",
    "naïve",
    "Straße",
    "東京",
    "日本語",
    "مرحبا",
    "ﷺ",
    "123456789",
    "12,345.67",
    "foo_bar",
    "http://a.b/c?d=e",
    "e\u0301e\u0327\u0301",
    "\u200d",
    "\u200b",
    "👩‍👩‍👧",
    "🇩🇪🇫🇷",
    "\x00",
    "\x07",
    "<mask>",
    "<ma",
    "▁",
    "x▁y",
    "---",
    ".....",
    "\uff01\uff01",
]
WORDS += ["a" * 40, "ΑΣ", "İ", "㍿"]
GAPS = [" ", " ", " ", " ", "  ", "\n", "\r\n", "\t", "", "", " " * 5, " " * 60, "\n\n\n", "\u3000", "\xa0", "0"]
RUNS = ["a", " ", "\n", "東", "1", "e\u0301", "\u0301", "<mask>"]
GPT4 = r"(?i:'s|'t|'ll)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
SENTENCEPIECE = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])


def make_text(draw: random.Random, words: int) -> str:
    if draw.random() < 0.05:
        return draw.choice(RUNS) * words
    return "".join(draw.choice(WORDS) + draw.choice(GAPS) for _ in range(words))


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    """Small ones of the kinds that models have, each trained on odd texts."""
    draw = random.Random(0)
    texts = [make_text(draw, 60) for _ in range(60)]
    letters = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    unknown = {"special_tokens": ["<unk>"], "show_progress": False}

    def train(model, trainer, normalizer, splitter, mask) -> Tokenizer:
        tokenizer = Tokenizer(model)
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        if splitter is not None:
            tokenizer.pre_tokenizer = splitter
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.add_special_tokens([mask])
        return tokenizer

    marks = Regex("(?<=[^▁])(?=▁)")  # for training alone, so that no token goes across the beginning of a word
    bytes_split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(GPT4), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    trained = {
        "gpt2": train(models.BPE(), trainers.BpeTrainer(vocab_size=600, **letters), None, pre_tokenizers.ByteLevel(False), "<mask>"),
        "roberta": train(
            models.BPE(),
            trainers.BpeTrainer(vocab_size=600, **letters),
            None,
            pre_tokenizers.ByteLevel(True),
            AddedToken("<mask>", lstrip=True),
        ),
        "gpt4": train(
            models.BPE(ignore_merges=True), trainers.BpeTrainer(vocab_size=600, **letters), normalizers.NFC(), bytes_split, "<mask>"
        ),
        "xlm-roberta": train(
            models.BPE(),
            trainers.BpeTrainer(vocab_size=300, **unknown),
            SENTENCEPIECE,
            pre_tokenizers.Metaspace(),
            AddedToken("<mask>", lstrip=True),
        ),
        "llama": train(
            models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"),
            trainers.BpeTrainer(vocab_size=500, **unknown),
            LLAMA,
            pre_tokenizers.Split(marks, "isolated"),
            AddedToken("<mask>", rstrip=True),
        ),
        "bert": train(
            models.WordPiece(unk_token="<unk>", max_input_chars_per_word=20),
            trainers.WordPieceTrainer(vocab_size=400, **unknown),
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
            "<mask>",
        ),
    }
    trained["llama"].pre_tokenizer = None  # type: ignore[assignment]
    # a trained Unigram model is another one each time, so its pieces are those of BPE, the frequent ones first
    pieces = sorted((place, piece) for piece, place in trained["xlm-roberta"].get_vocab(with_added_tokens=False).items())
    trained["xlm-roberta"].model = models.Unigram([(piece, -3 - math.log(1 + place)) for place, piece in pieces], unk_id=0)
    trained["xlm-roberta"].add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return trained


def test_the_first_tokens_are_those_of_the_whole_text(tokenizers, monkeypatch):
    """Short limits stand for long texts, so that cuts fall everywhere."""
    monkeypatch.setattr(long_texts, "SHORTEST_BEGINNING", 20)
    monkeypatch.setattr(long_texts, "CHARACTERS_PER_TOKEN", 4)
    monkeypatch.setattr(long_texts, "GROWTH", 2)
    draw, cuts = random.Random(1), dict.fromkeys(tokenizers, 0)
    for _ in range(120):
        text, length = make_text(draw, draw.choice([50, 200])), draw.choice([1, 3, 8, 30])
        for name, tokenizer in tokenizers.items():
            [beginning] = cut_long_texts(tokenizer, [text], length)
            whole, part = (tokenizer.encode(words, add_special_tokens=False).ids for words in (text, beginning))
            assert whole[:length] == part[:length], (name, length, text, beginning)
            cuts[name] += len(beginning) < len(text)
    assert min(cuts.values()) > 80, cuts


@pytest.mark.parametrize("run", ["a", "7", " ", "\n", "aB3"])
def test_a_long_run_is_cut_as_well(run, tokenizers):
    """What a tokenizer reads as a single word: its first tokens are known where they are the same at every cut within a token's length."""
    text = "the river " + run * 30_000 + " music"
    for name, tokenizer in tokenizers.items():
        [beginning] = cut_long_texts(tokenizer, [text], 16)
        whole, part = (tokenizer.encode(words, add_special_tokens=False).ids for words in (text, beginning))
        assert whole[:16] == part[:16], name
        # one space is made of a run of spaces; a run of letters begins with what its longest tokens leave over, which only its end tells
        stays_whole = name == "xlm-roberta" and run in (" ", "\n", "a")
        assert len(beginning) < 6000 or stays_whole, name


def test_a_rule_that_looks_ahead_keeps_the_text_whole():
    """Digits are grouped from their end, which only the end of the number tells."""
    groups = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))"
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    for rule, is_cut in ((groups, False), (r"\p{N}{1,3}|\s+(?!\S)|\s+", True)):
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rule), "isolated")
        text = "12345 " * 20_000
        assert (len(cut_long_texts(tokenizer, [text], 8)[0]) < len(text)) is is_cut


def test_texts_that_a_tokenizer_cuts_on_the_left_stay_whole():
    encoder = make_encoder("bert")
    text = "river " * 5000 + "garden music"
    encoder.tokenizer.truncation_side = "left"
    core = encoder.tokenizer.backend_tokenizer
    garden, music = (core.token_to_id(word) for word in ("garden", "music"))
    assert encoder.token_ids([text], "query")[0][-3:-1] == [garden, music]
    assert cut_long_texts(core, [text], 16) == [text]


def test_a_vocabulary_with_words_across_marks_does_not_split_before_them(tokenizers):
    assert splits_before_marks(tokenizers["llama"])
    joined = Tokenizer(models.BPE({"▁": 0, "a": 1, "a▁": 2}, [("a", "▁")]))
    assert not splits_before_marks(joined)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "mpnet"])
@pytest.mark.parametrize("gap", [" ", "\n", " \t\n " * 5])
def test_a_long_text_has_the_ids_and_the_vector_of_the_whole(family, gap):
    encoder = make_encoder(family, prompts={"query": "find ", "document": ""})
    text = f"river{gap}old music{gap}" * 600
    ids = encoder.tokenizer("find " + text, truncation=True, max_length=16)["input_ids"]
    assert encoder.token_ids([text, "river"], "query")[0] == ids
    assert torch.equal(encoder.encode([text], "query"), encoder(encoder.pad([ids])))
    cross = make_cross(family)
    alone = cross.tokenizer(text, add_special_tokens=False, truncation=True, max_length=16)["input_ids"]
    assert cross.token_ids([text], "document") == [alone]


def test_30_megabytes_take_no_time():
    """Read whole, they would take half a minute and gigabytes."""
    encoder, text = make_encoder("bert"), "what is the best river " * 1_300_000
    start = time.perf_counter()
    assert len(encoder.token_ids([text], "document")[0]) == 16
    assert time.perf_counter() - start < 3
