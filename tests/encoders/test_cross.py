"""Scores and pooled vectors of pairs against arithmetic by hand, and against the programs whose folders are read and written."""

import json
import shutil

import pytest
import torch
from families import FAMILIES, make_cross, make_folder, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from distill.encoders.cross import CrossSettings, uses_token_types
from distill.encoders.cross_folder import load_cross_encoder, new_cross_encoder
from distill.records import BadInput

HEADS = ["dual_pooling", "cls"]
QUERIES = ["old river", "how to find a garden", "bread"]
DOCUMENTS = ["a market", "what is the best old engine near the small market", "planet " * 30]
# positions of the query's and the document's tokens in the pair ("old river", "a market")
SPANS = {family: ([1, 2], [5, 6] if family in ("xlm-roberta", "mpnet") else [4, 5]) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_pooled_vectors_and_score_by_hand(family):
    encoder = make_cross(family)
    inputs = encoder.tokenizer("old river", "a market", return_tensors="pt")
    if family != "bert":
        inputs.pop("token_type_ids", None)
    states = encoder.backbone(**inputs).last_hidden_state[0].double()  # [L, D]
    query, document = (sum(states[place] for place in places) / len(places) for places in SPANS[family])
    query, document = query / query.square().sum().sqrt(), document / document.square().sum().sqrt()
    scored = encoder.score(["old river"], ["a market"])
    torch.testing.assert_close(scored.query[0].double(), query, atol=1e-6, rtol=0)
    torch.testing.assert_close(scored.document[0].double(), document, atol=1e-6, rtol=0)
    assert float(scored.scores[0]) == pytest.approx(float(query @ document) / 0.05, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_classifiers_logit_is_the_score(family):
    encoder = make_cross(family, "cls")
    inputs = encoder.tokenizer("old river", "a market", return_tensors="pt")
    scored = encoder.score(["old river"], ["a market"])
    assert float(scored.scores[0]) == pytest.approx(float(encoder.backbone(**inputs).logits[0, 0]), abs=1e-6)
    assert scored.query.shape == scored.document.shape == (1, 0)


@torch.inference_mode()
def test_of_two_classes_the_score_is_the_log_odds_of_the_second():
    encoder = make_cross("bert", "cls", labels=2)
    chances = encoder.backbone(**encoder.tokenizer("old river", "a market", return_tensors="pt")).logits[0].softmax(0)
    expected = float((chances[1] / chances[0]).log())
    assert float(encoder.score(["old river"], ["a market"]).scores[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_types_go_only_where_the_backbone_has_them(family):
    encoder = make_cross(family)
    assert uses_token_types(encoder.backbone, encoder.tokenizer) == (family == "bert")
    pairs = encoder.build_pairs(*(encoder.token_ids([text], "query") for text in ("old river", "a market")))
    assert ("token_type_ids" in encoder._inputs(pairs)) == (family == "bert")


@pytest.mark.parametrize("head", HEADS)
def test_the_documents_token_types_matter_to_bert(head):
    encoder = make_cross("bert", head)
    with_types = encoder.score(QUERIES, DOCUMENTS).scores
    encoder.takes_token_types = False
    assert not torch.allclose(encoder.score(QUERIES, DOCUMENTS).scores, with_types, atol=1e-3)


CROSS = {(family, head): make_cross(family, head) for family in FAMILIES for head in HEADS}
WORDS = st.lists(st.integers(5, 30), min_size=1, max_size=20)
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=5)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(list(CROSS)), pairs=PAIRS, beyond=WORDS)
@torch.inference_mode()
def test_padding_and_truncation_never_leak(kind, pairs, beyond):
    """A pair's vectors and score are the same in any company, whatever id pads, and whatever stands behind the cut."""
    encoder = CROSS[kind]
    queries, documents = map(list, zip(*pairs, strict=True))
    batch = encoder.build_pairs(queries, documents)
    together = encoder(batch)
    other_padding = batch.input_ids.where(batch.attention_mask == 1, encoder.template.pad_id if kind[0] in ("xlm-roberta", "mpnet") else 7)
    padded = encoder(type(batch)(other_padding, *list(vars(batch).values())[1:]))
    room = encoder.settings.max_length - encoder.template.special_count
    for row, (query, document) in enumerate(pairs):
        is_cut = len(query) + len(document) >= room and len(query) <= room // 2
        alone = encoder(encoder.build_pairs([query], [document + beyond if is_cut else document]))
        for name in ("scores", "query", "document"):
            ours, mixed = getattr(alone, name)[0], getattr(together, name)[row]
            torch.testing.assert_close(ours, mixed, atol=2e-4 if name == "scores" else 1e-5, rtol=0)
            torch.testing.assert_close(getattr(padded, name)[row], mixed, atol=2e-4 if name == "scores" else 1e-5, rtol=0)


@torch.inference_mode()
def test_an_empty_document_scores_0_and_the_query_keeps_a_vector():
    scored = make_cross("bert").score(["old river"], [""])
    assert (float(scored.scores[0]), float(scored.document.norm())) == (0, 0)
    assert float(scored.query.norm()) == pytest.approx(1, abs=1e-6)


def test_the_pooled_vectors_have_a_gradient_beside_an_empty_text():
    encoder = make_cross("bert")
    encoder(encoder.build_pairs([[5, 6], []], [[], [7]])).query[0].sum().backward()
    gradients = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


# folders


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_cross_encoder_reloads_identically(family, head, tmp_path):
    encoder = make_cross(family, head, max_length=14)
    encoder.settings = CrossSettings(14, 0.1 if head == "dual_pooling" else 0.05)
    before = encoder.score(QUERIES, DOCUMENTS)
    encoder.save_pretrained(tmp_path / "model")
    loaded = load_cross_encoder(str(tmp_path / "model"))
    after = loaded.score(QUERIES, DOCUMENTS)
    for name in ("query", "document", "scores"):
        # a classifier's last product, [P, D] by [D, 1], rounds by where in memory its weights lie
        torch.testing.assert_close(getattr(before, name), getattr(after, name), atol=1e-6 if head == "cls" else 0, rtol=0)
    assert (type(loaded), loaded.settings, loaded.fingerprint()) == (type(encoder), encoder.settings, encoder.fingerprint())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_transformers_reads_a_classifier_of_ours(family, tmp_path):
    theirs = pytest.importorskip("sentence_transformers")
    encoder = make_cross(family, "cls")
    encoder.save_pretrained(tmp_path / "model")
    scores = theirs.CrossEncoder(str(tmp_path / "model"), device="cpu").predict(list(zip(QUERIES, DOCUMENTS, strict=True)))
    torch.testing.assert_close(torch.from_numpy(scores), encoder.score(QUERIES, DOCUMENTS).scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("labels", [1, 2])
def test_classifiers_of_transformers_and_sentence_transformers_are_read(labels, tmp_path):
    theirs = pytest.importorskip("sentence_transformers")
    encoder = make_cross("bert", "cls", labels=labels)
    encoder.backbone.save_pretrained(tmp_path / "plain")
    encoder.tokenizer.save_pretrained(tmp_path / "plain")
    theirs.CrossEncoder(str(tmp_path / "plain"), device="cpu").save_pretrained(str(tmp_path / "theirs"))
    expected = encoder.score(QUERIES, DOCUMENTS).scores
    for name in ("plain", "theirs"):
        torch.testing.assert_close(load_cross_encoder(str(tmp_path / name)).score(QUERIES, DOCUMENTS).scores, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("start", ["sentence-transformers", "plain", "classifier", "dual pooling"])
@pytest.mark.parametrize("head", HEADS)
def test_any_transformer_begins_a_cross_encoder(start, head, tmp_path):
    if start == "sentence-transformers":
        make_folder(tmp_path / "model", "bert")
    elif start == "plain":
        make_cross("bert").backbone.save_pretrained(tmp_path / "model")
        make_tokenizer("bert").save_pretrained(tmp_path / "model")
    else:
        make_cross("bert", "cls" if start == "classifier" else "dual_pooling").save_pretrained(tmp_path / "model")
    encoder = new_cross_encoder(str(tmp_path / "model"), head, max_length=12, temperature=0.1)
    assert (encoder.head, encoder.settings) == (head, CrossSettings(12, 0.1))
    assert encoder.score(QUERIES, DOCUMENTS).scores.isfinite().all()
    weights = without_prefix(load_file(tmp_path / "model" / "model.safetensors"))
    inherited = {name: tensor for name, tensor in without_prefix(encoder.backbone.state_dict()).items() if name in weights}
    assert len(inherited) > 30 and all(torch.equal(tensor, weights[name]) for name, tensor in inherited.items())
    assert ("classifier.weight" in inherited) == (start == "classifier" and head == "cls")


def without_prefix(state):
    return {name.removeprefix("bert."): tensor for name, tensor in state.items()}


def test_what_does_not_score_pairs_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"its weights lack .*: random numbers"):
        load_cross_encoder(str(make_folder(tmp_path / "encoder", "bert")))
    encoder = make_cross("bert", "cls", labels=3)
    encoder.save_pretrained(tmp_path / "three")
    with pytest.raises(BadInput, match="tells 3 classes apart"):
        load_cross_encoder(str(tmp_path / "three"))
    shutil.copytree(tmp_path / "three", tmp_path / "router")
    (tmp_path / "router" / "modules.json").write_text(json.dumps([{"path": "", "type": "sentence_transformers.models.Router"}]))
    with pytest.raises(BadInput, match=r"begins with sentence_transformers\.models\.Router, and not with a Transformer"):
        load_cross_encoder(str(tmp_path / "router"))
    with pytest.raises(BadInput, match="a pair has no room"):
        make_cross("bert", max_length=4)


def test_a_new_head_has_one_score(tmp_path):
    folder = make_folder(tmp_path / "encoder", "bert")
    encoder = new_cross_encoder(str(folder), "cls")
    encoder.save_pretrained(tmp_path / "model")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").config.num_labels == 1


def test_the_fingerprint_changes_with_whatever_changes_a_score():
    encoders = [make_cross("bert"), make_cross("bert", seed=1), make_cross("bert", max_length=12), make_cross("bert", "cls")]
    warmer = make_cross("bert")
    warmer.settings = CrossSettings(warmer.settings.max_length, 0.1)
    assert len({encoder.fingerprint() for encoder in [*encoders, warmer]}) == 5
    assert make_cross("bert").fingerprint() == encoders[0].fingerprint()
