"""Encoders of fewer tokens: texts of kept tokens keep their vectors, all others can still be read."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from families import FAMILIES as SMALL
from families import make_encoder, make_folder
from family_tokenizers import TOKENIZERS
from plain_folders import USUAL, make_words
from teacher_families import FAMILIES, OWN_CODE, write_teacher
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import BertConfig, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.modules import Transformer
from distill.encoders.pooling import Pooling
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, TeacherSpace
from distill.encoders.tokenizer_cuts import TokenizerParts
from distill.encoders.tokenizing import TextSettings
from distill.encoders.vocabulary import choose_tokens, describe_vocabulary, prune_vocabulary, vocabulary_fingerprint
from distill.records import BadInput

USED = ["hello the river", "one two world"]
UNSEEN = ["three rivers", "zebra words", "naïve 東京 🎉", "مرحبا a\x00b", "five hello river"]
SMALL_USED, SMALL_UNSEEN = ["what is the best river", "old garden"], ["planet letters", "a zebra near the ocean"]


def count(encoder: Encoder, texts: list[str]) -> np.ndarray:
    ids = np.concatenate(encoder.token_ids(texts, "query"))
    return np.bincount(ids, minlength=len(encoder.word_table.weight))


def read_tokens(encoder: Encoder, texts: list[str]) -> list[list[str]]:
    return [encoder.tokenizer.convert_ids_to_tokens(row) for row in encoder.token_ids(texts, "query")]


def name_special_tokens(encoder: Encoder) -> dict[str, str]:
    """What the ids in the backbone's config stand for."""
    settings = {name: id_ for name, id_ in encoder.backbone.config.to_dict().items() if name.endswith("_token_id")}
    return {name: encoder.tokenizer.convert_ids_to_tokens(id_) for name, id_ in settings.items() if id_ is not None}


def check_pruned(encoder: Encoder, used: list[str], unseen: list[str]) -> Encoder:
    """Prunes to what `used` uses, and compares what can be compared with the whole vocabulary."""
    whole = encoder.fingerprint()
    pruned = prune_vocabulary(encoder, count(encoder, used), "used")
    assert len(pruned.tokenizer) == len(pruned.word_table.weight) == pruned.backbone.config.vocab_size < len(encoder.tokenizer)
    assert read_tokens(pruned, used) == read_tokens(encoder, used)
    torch.testing.assert_close(pruned.encode(used, "query"), encoder.encode(used, "query"), atol=1e-6, rtol=0)
    before, after = read_tokens(encoder, unseen), read_tokens(pruned, unseen)
    assert before != after
    unknown = encoder.tokenizer.unk_token
    assert [row.count(unknown) for row in after] == [row.count(unknown) for row in before]
    assert name_special_tokens(pruned) == name_special_tokens(encoder)
    kept = ("padding_side", "truncation_side", "model_max_length", "model_input_names", "name_or_path", "special_tokens_map")
    assert [getattr(pruned.tokenizer, name) for name in kept] == [getattr(encoder.tokenizer, name) for name in kept]
    assert type(pruned.tokenizer) is type(encoder.tokenizer) and encoder.fingerprint() == whole
    return pruned


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != OWN_CODE])
def test_texts_of_kept_tokens_keep_their_vectors(family, tmp_path):
    """With the tokenizer class of each family's real folders; also in the folder that is written, here and in sentence-transformers."""
    theirs = pytest.importorskip("sentence_transformers", minversion="6")
    pruned = check_pruned(load_encoder(write_teacher(tmp_path / "teacher", family, "lasttoken")), USED, UNSEEN)
    pruned.save_pretrained(tmp_path / "pruned")
    again = load_encoder(str(tmp_path / "pruned"))
    texts = [*USED, *UNSEEN]
    assert again.fingerprint() == pruned.fingerprint()
    assert torch.equal(again.encode(texts, "query"), pruned.encode(texts, "query"))
    model = theirs.SentenceTransformer(str(tmp_path / "pruned"), device="cpu")
    np.testing.assert_allclose(model.encode(texts, batch_size=2), pruned.encode_query(texts), atol=1e-5)


@pytest.mark.parametrize("family", [family for family in SMALL if family != "xlm-roberta"])
def test_prompts_stay_whole(family):
    """Their tokens are kept, though no text has them."""
    encoder = make_encoder(family, prompts={"query": "find the letter ", "document": "market "})
    pruned = check_pruned(encoder, SMALL_USED, SMALL_UNSEEN)
    assert read_tokens(pruned, ["river"]) == read_tokens(encoder, ["river"])
    torch.testing.assert_close(pruned.encode("old river", "document"), encoder.encode("old river", "document"), atol=1e-6, rtol=0)


def test_words_that_no_letters_spell_stay():
    """A Unigram without letters: every word that went would become unknown."""
    encoder = make_encoder("xlm-roberta")
    assert prune_vocabulary(encoder, np.zeros(len(encoder.tokenizer)), "used") is encoder


def test_lower_case_and_sides_stay(tmp_path):
    encoder = load_encoder(write_teacher(tmp_path, "BERT", do_lower_case=False, truncation_side="left"))
    pruned = check_pruned(encoder, USED, UNSEEN)
    assert read_tokens(pruned, ["Hello"]) == read_tokens(encoder, ["Hello"]) == [["[CLS]", "[UNK]", "[SEP]"]]


@pytest.mark.slow
def test_a_graph_of_it_gives_its_vectors(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from distill.encoders.onnx_encoder import MODEL, OnnxEncoder
    from distill.export.onnx_graph import write_graph

    encoder = make_encoder("modernbert")
    pruned = prune_vocabulary(encoder, count(encoder, SMALL_USED), "used")
    pruned.save_pretrained(tmp_path / "pruned")
    (tmp_path / "pruned" / MODEL).parent.mkdir()
    write_graph(pruned, tmp_path / "pruned" / MODEL)
    served = OnnxEncoder(tmp_path / "pruned")
    texts = [*SMALL_USED, *SMALL_UNSEEN]
    np.testing.assert_allclose(served.encode_query(texts), pruned.encode_query(texts), atol=1e-5)


# which tokens are kept


def make_bert(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    """A small random BERT for a tokenizer, with a row up to its highest id."""
    torch.manual_seed(0)
    rows = max(tokenizer.get_vocab().values()) + 1
    backbone = make_backbone_of(BertConfig(**USUAL, vocab_size=rows, pad_token_id=tokenizer.pad_token_id))
    return Encoder([Transformer(backbone), Pooling("mean")], tokenizer, TextSettings(16)).eval()


def make_backbone_of(config):
    from distill.encoders.transformer_folder import new_backbone

    return new_backbone(config).eval()


def make_bpe(**settings) -> PreTrainedTokenizerFast:
    """abc has two derivations, of which only that by ab is taken."""
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc"), ("c", "c"), ("cc", "a")]
    vocabulary = ["[PAD]", "a", "b", "c", "ab", "bc", "abc", "cc", "cca", *settings.pop("more", [])]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, merges, **settings))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", model_input_names=["input_ids", "attention_mask"])


def names(encoder: Encoder, ids: np.ndarray) -> list[str]:
    return encoder.tokenizer.convert_ids_to_tokens(ids.tolist())


def test_a_merged_token_keeps_the_parts_of_all_its_merges():
    encoder = make_bert(make_bpe())
    counts = np.zeros(9)
    counts[6] = 1
    assert names(encoder, choose_tokens(encoder, counts, "used")) == ["[PAD]", "a", "b", "c", "ab", "bc", "abc"]
    counts[8] = 2  # cca needs cc
    assert names(encoder, choose_tokens(encoder, counts, 6)) == ["[PAD]", "a", "b", "c", "cc", "cca"]
    # abc would need three rows where two are left: the next that fits takes one, which is ab, as it is the first of those without counts
    assert names(encoder, choose_tokens(encoder, counts, 8)) == ["[PAD]", "a", "b", "c", "ab", "bc", "cc", "cca"]
    pruned = prune_vocabulary(encoder, counts, 6)
    assert [row[0] for row in TokenizerParts(pruned.tokenizer).merges] == ["c", "cc"]
    assert read_tokens(pruned, ["cca abc"]) == [["cca", "a", "b", "c"]]


def test_a_word_that_is_looked_up_whole_stays_where_nothing_spells_it():
    encoder = make_bert(make_bpe(ignore_merges=True, more=["xyz"]))
    assert names(encoder, choose_tokens(encoder, np.zeros(10), "used")) == ["[PAD]", "a", "b", "c", "xyz"]
    assert read_tokens(prune_vocabulary(encoder, np.zeros(10), "used"), ["xyz abc"]) == [["xyz", "a", "b", "c"]]


def make_pieces(vocabulary: dict[str, int], **settings) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = {"pad_token": "[PAD]", "unk_token": "[UNK]", **settings}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=["input_ids", "attention_mask"], **specials)


PIECES = ["[PAD]", "[UNK]", "a", "##a", "aa", "##aa", "aaa", "ß", "aß"]


def test_the_most_frequent_tokens_are_kept_and_those_that_nothing_spells():
    encoder = make_bert(make_pieces({token: i for i, token in enumerate(PIECES)}))
    counts = np.array([0, 9, 0, 0, 1, 1, 3, 0, 0])
    required = ["[PAD]", "[UNK]", "a", "##a", "ß", "aß"]  # a word goes on with no ß of its own
    assert names(encoder, choose_tokens(encoder, counts, 6)) == required
    assert set(names(encoder, choose_tokens(encoder, counts, 7))) == {*required, "aaa"}
    assert set(names(encoder, choose_tokens(encoder, counts, 8))) == {*required, "aaa", "aa"}  # the lower id of two alike
    assert len(choose_tokens(encoder, counts, "used")) == 9
    with pytest.raises(BadInput, match=r"^vocabulary: 5: 6 tokens must stay, .*: give 6 or more, or used$"):
        choose_tokens(encoder, counts, 5)
    for size in (9, 10, 10**9):
        assert prune_vocabulary(encoder, counts, size) is encoder


def test_gaps_between_ids_and_added_tokens_are_closed():
    """Ids without a token have rows, which go; added tokens, whose ids are below that of the last word, come last."""
    places = [0, 1, 2, 3, 4, 5, 6, 7, 20]
    tokenizer = make_pieces(dict(zip(PIECES, places, strict=True)), mask_token="[MASK]")
    tokenizer.add_tokens(["river"])
    encoder = make_bert(tokenizer)
    assert len(encoder.word_table.weight) > len(tokenizer)
    counts = np.zeros(len(encoder.word_table.weight))
    pruned = prune_vocabulary(encoder, counts, "used")
    assert read_tokens(pruned, ["a river [MASK] aß"]) == [["a", "river", "[MASK]", "aß"]]
    assert sorted(pruned.tokenizer.get_vocab().values()) == list(range(len(pruned.word_table.weight)))
    torch.testing.assert_close(pruned.encode("a river ß", "query"), encoder.encode("a river ß", "query"), atol=1e-6, rtol=0)


def test_the_share_of_the_tokens_that_are_kept():
    counts = np.array([1.0, 0.5, 0.25, 0.25])
    assert describe_vocabulary(counts, np.array([0, 2]), 4).startswith("2 of 4 tokens kept, which are 62.5% of the tokens")
    assert describe_vocabulary(np.zeros(2), np.array([0]), 2).startswith("1 of 2 tokens kept, which are 100.0%")


def test_the_fingerprint_is_of_tokens_and_their_order():
    one, other = make_pieces({"[PAD]": 0, "[UNK]": 1, "a": 2}), make_pieces({"[PAD]": 0, "a": 1, "[UNK]": 2})
    assert vocabulary_fingerprint(make_bert(one)) != vocabulary_fingerprint(make_bert(other))
    assert vocabulary_fingerprint(make_bert(one)) == vocabulary_fingerprint(make_bert(make_pieces({"[PAD]": 0, "[UNK]": 1, "a": 2})))


# students


@pytest.mark.parametrize("make", [lambda folder, **s: StudentFromTeacher(2, **s), lambda folder, **s: StudentFromBackbone(folder, **s)])
def test_a_student_has_the_tokens_of_its_texts(make, tmp_path, caplog):
    caplog.set_level("INFO", logger="distill")
    folder = str(make_folder(tmp_path / "teacher", "bert"))
    space = TeacherSpace(Maker(folder, load_encoder(folder).fingerprint()), 16, normalized=True)
    whole = make(folder).make_student(space)
    spec = make(folder, vocabulary="used")
    student = spec.make_student(space, count_tokens=lambda encoder: count(encoder, SMALL_USED))
    assert read_tokens(student, SMALL_USED) == read_tokens(whole, SMALL_USED)
    torch.testing.assert_close(student.encode(SMALL_USED, "query"), whole.encode(SMALL_USED, "query"), atol=1e-6, rtol=0)
    assert spec.kept_vocabulary == f"{len(student.tokenizer)} of 82 tokens kept, which are 100.0% of the tokens of queries and documents"
    assert f"vocabulary: {spec.kept_vocabulary}" in caplog.text
    assert all(module.p == 0 for module in student.backbone.modules() if isinstance(module, nn.Dropout))
    with pytest.raises(BadInput, match=r"^vocabulary: used: a student that meets no texts has no tokens to count: train it with Retr"):
        spec.make_student(space)


# refusals


@pytest.mark.parametrize("size", [0, -1, True, "all", 1.5])
def test_what_is_no_size_is_refused(size):
    words = f"^vocabulary: {re.escape(repr(size))}: give the number of tokens to keep, or used for all that the texts use$"
    for make in (lambda: StudentFromTeacher(vocabulary=size), lambda: StudentFromBackbone("bert", vocabulary=size)):
        with pytest.raises(BadInput, match=words):
            make()


def test_a_tokenizer_of_words_is_refused():
    tokenizer = make_words(pad_token="<pad>", unk_token="<unk>")
    with pytest.raises(BadInput, match="a tokenizer of kind WordLevel is not cut: leave vocabulary out"):
        choose_tokens(make_bert(tokenizer), np.zeros(11), "used")


def test_another_weight_for_each_token_is_refused():
    encoder = make_encoder("bert")
    encoder.backbone.bias = nn.Parameter(torch.zeros(len(encoder.tokenizer)))
    with pytest.raises(BadInput, match=r"^vocabulary: bert: this architecture cannot be pruned: its bias has a row for each token too"):
        prune_vocabulary(encoder, count(encoder, SMALL_USED), "used")


def test_positions_that_are_counted_from_padding_with_another_id_are_refused():
    """RoBERTa's positions begin behind the id of padding, which is the last but four here: each would get another vector."""
    tokenizer = TOKENIZERS["ModernBERT"]()
    settings = {**USUAL, "max_position_embeddings": 400, "initializer_range": 0.2}
    torch.manual_seed(0)
    config = RobertaConfig(**settings, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    encoder = Encoder([Transformer(RobertaModel(config, add_pooling_layer=False).eval()), Pooling("mean")], tokenizer, TextSettings(16))
    with pytest.raises(BadInput, match=r"^vocabulary: roberta: this architecture cannot be pruned: .*other vectors: leave vocabulary out$"):
        prune_vocabulary(encoder, count(encoder, USED), "used")
