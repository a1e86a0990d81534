"""Which token of a pair belongs to whom, by hand for each family's special tokens; cutting and padding never move a token."""

import numpy as np
import pytest
import torch
from families import FAMILIES, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    MPNetConfig,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

from distill.encoders.cross import CrossSettings, DualPooling
from distill.encoders.pair_tokens import PairTemplate
from distill.encoders.transformer_folder import build_options
from distill.records import BadInput

BERT_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "river", "old", "market"]
MPNET_WORDS = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>", "a", "river", "old", "market"]


def own_tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """The families' own classes, which put pairs together in their own way."""
    roberta = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdeiklmnortv", "Ġ"])}
    pieces = [(word, -1.0 - i) for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁river", "▁old", "▁market", "▁a"])]
    return {
        "bert": BertTokenizer(vocab={word: i for i, word in enumerate(BERT_WORDS)}),
        "roberta": RobertaTokenizer(vocab=roberta, merges=[]),
        "xlm-roberta": XLMRobertaTokenizer(vocab=pieces),
        "mpnet": MPNetTokenizer(vocab={word: i for i, word in enumerate(MPNET_WORDS)}),
    }


# the pair ("old river", "a market"): [special tokens are 0, the query's 1, the document's 2], token types
BY_HAND = {
    "bert": ([0, 1, 1, 0, 2, 2, 0], [0, 0, 0, 0, 1, 1, 1]),  # [CLS] old river [SEP] a market [SEP]
    "distilbert": ([0, 1, 1, 0, 2, 2, 0], [0, 0, 0, 0, 1, 1, 1]),
    "modernbert": ([0, 1, 1, 0, 2, 2, 0], [0] * 7),
    "mpnet": ([0, 1, 1, 0, 0, 2, 2, 0], [0] * 8),  # <s> old river </s> </s> a market </s>
    "xlm-roberta": ([0, 1, 1, 0, 0, 2, 2, 0], [0] * 8),
    "roberta": ([0] + [1] * 9 + [0, 0] + [2] * 8 + [0], [0] * 21),  # a token for every letter and space
}


def build_pair(tokenizer, query: str, document: str, max_length: int = 64):
    alone = tokenizer([query, document], add_special_tokens=False)["input_ids"]
    return PairTemplate.from_tokenizer(tokenizer).build_pairs([alone[0]], [alone[1]], max_length)


def owners(pairs) -> list[int]:
    return (pairs.query_mask + 2 * pairs.document_mask)[0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_spans_by_hand(family):
    pairs = build_pair(make_tokenizer(family), "old river", "a market")
    assert (owners(pairs), pairs.token_type_ids[0].tolist()) == BY_HAND[family]
    assert pairs.attention_mask.all()


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "mpnet"])
def test_spans_by_hand_of_the_families_own_tokenizers(family, tmp_path):
    own_tokenizers()[family].save_pretrained(tmp_path)
    for tokenizer in (own_tokenizers()[family], type(own_tokenizers()[family]).from_pretrained(tmp_path)):
        pairs = build_pair(tokenizer, "old river", "a market")
        spans, types = BY_HAND[family]
        assert owners(pairs) == spans
        written = tokenizer("old river", "a market", return_token_type_ids=True)
        assert pairs.input_ids[0].tolist() == written["input_ids"]
        assert pairs.token_type_ids[0].tolist() == written["token_type_ids"]
        assert family == "mpnet" or written["token_type_ids"] == types


BACKBONES = {"bert": BertConfig, "roberta": RobertaConfig, "xlm-roberta": XLMRobertaConfig, "mpnet": MPNetConfig}


@pytest.mark.parametrize("family", BACKBONES)
@torch.inference_mode()
def test_pooled_vectors_are_means_over_those_spans(family):
    """Alone and beside a longer pair, as the family's own tokenizer writes it and its own model reads it."""
    tokenizer = own_tokenizers()[family]
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "initializer_range": 0.2}
    config = BACKBONES[family](vocab_size=40, max_position_embeddings=60, pad_token_id=tokenizer.pad_token_id, **shape)
    encoder = DualPooling(AutoModel.from_config(config, **build_options(config)).eval(), tokenizer, CrossSettings(50))
    written = tokenizer("old river", "a market", return_tensors="pt")
    if family != "bert":
        written.pop("token_type_ids", None)
    states = encoder.backbone(**written).last_hidden_state[0].double()  # [L, D]
    alone, padded = encoder.score(["old river"], ["a market"]), encoder.score(["old river", "old"], ["a market", "a market river old " * 2])
    for side, name in ((1, "query"), (2, "document")):
        by_hand = states[[place for place, owner in enumerate(BY_HAND[family][0]) if owner == side]].mean(0)
        for scored in (alone, padded):
            torch.testing.assert_close(getattr(scored, name)[0].double(), by_hand / by_hand.norm(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_length", [8, 10, 16])
def test_a_pair_is_what_the_tokenizer_writes_when_only_the_second_text_is_cut(family, max_length):
    tokenizer = make_tokenizer(family)
    query, document = "old river", "a small market near the blue ocean and a large garden"
    pairs = build_pair(tokenizer, query, document, max_length)
    written = tokenizer(query, document, truncation="only_second", max_length=max_length, return_token_type_ids=True)
    assert pairs.input_ids[0].tolist() == written["input_ids"]
    assert pairs.token_type_ids[0].tolist() == written["token_type_ids"]
    assert owners(pairs) == [0 if owner is None else owner + 1 for owner in written.sequence_ids(0)]


TEXTS = st.lists(st.lists(st.integers(5, 60), max_size=30), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(family=st.sampled_from(FAMILIES), queries=TEXTS, documents=TEXTS, max_length=st.integers(8, 40))
def test_whatever_the_lengths_every_mask_marks_its_own_text(family, queries, documents, max_length):
    template, count = PairTemplate.from_tokenizer(make_tokenizer(family)), min(len(queries), len(documents))
    queries, documents = queries[:count], documents[:count]
    pairs = template.build_pairs(queries, documents, max_length)
    room = max_length - template.special_count
    for row, (query, document) in enumerate(zip(queries, documents, strict=True)):
        ids, real = pairs.input_ids[row], pairs.attention_mask[row].bool()
        kept_query, kept_document = (ids[mask[row].bool()].tolist() for mask in (pairs.query_mask, pairs.document_mask))
        assert kept_query == query[: len(kept_query)] and kept_document == document[: len(kept_document)]
        assert len(kept_query) + len(kept_document) == min(room, len(query) + len(document))
        assert len(kept_query) == len(query) or len(kept_document) in (len(document), room - room // 2)
        # nothing beside the two texts, the special tokens and padding on the right
        assert int(real.sum()) == template.special_count + len(kept_query) + len(kept_document)
        assert real.tolist() == sorted(real.tolist(), reverse=True)
        assert not (pairs.query_mask[row] & pairs.document_mask[row]).any()
        assert (ids[~real] == template.pad_id).all() and not pairs.token_type_ids[row][~real].any()
        alone = template.build_pairs([query], [document], max_length)
        assert torch.equal(ids[real], alone.input_ids[0])
    assert pairs.input_ids.shape[1] == int(pairs.attention_mask.sum(1).max()) <= max_length


def test_numpy_rows_are_taken_too():
    template = PairTemplate.from_tokenizer(make_tokenizer("bert"))
    lists, arrays = [[5, 6], [7]], [np.array([5, 6], np.int32), np.array([7], np.int32)]
    assert torch.equal(template.build_pairs(lists, lists, 16).input_ids, template.build_pairs(arrays, arrays, 16).input_ids)


def test_a_query_too_long_for_both_leaves_the_document_half():
    template = PairTemplate.from_tokenizer(make_tokenizer("bert"))  # room for 13 tokens in 16
    query, document = template.fit_lengths(list(range(20)), list(range(100, 120)), 16)
    assert (query, document) == (list(range(6)), list(range(100, 107)))
    query, document = template.fit_lengths(list(range(20)), [100, 101], 16)
    assert (query, document) == (list(range(11)), [100, 101])


def test_a_tokenizer_that_separates_nothing_is_refused():
    core = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1, "[UNK]": 2}, unk_token="[UNK]"))
    core.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    with pytest.raises(BadInput, match="puts nothing between"):
        PairTemplate.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]"))
