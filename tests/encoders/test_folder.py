import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, MAX_LENGTH, make_dense, make_encoder, make_folder, make_tokenizer
from safetensors.torch import load_file, save_file

from distill.encoders.folder import load_encoder
from distill.encoders.modules import ACTIVATIONS, LayerNorm, Normalize
from distill.encoders.tokenizing import TextSettings
from distill.records import BadInput

TEXTS = ["what is the best river", "garden", "how to find a large old engine near the market", " ".join(["small planet letter"] * 20)]
PROMPTS = {"query": "find ", "document": "letter "}
ROLES = ("query", "document")


def make_layer_norm(width: int) -> LayerNorm:
    norm = LayerNorm(width)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


def heads(width: int = 16) -> dict[str, list]:
    return {
        "none": [],
        "normalized": [Normalize()],
        "dense": [make_dense(width, 24)],
        "dense without bias": [make_dense(width, 24, bias=False), Normalize()],
        "tanh": [make_dense(width, 8, activation="Tanh"), Normalize()],
        "layer norm": [make_dense(width, 8), make_layer_norm(8), Normalize()],
    }


def vectors_agree(ours: torch.Tensor, theirs: np.ndarray) -> bool:
    """Cosine 0.99999 and the same lengths."""
    theirs = torch.from_numpy(theirs)
    cosines = torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)
    same_lengths = torch.allclose(ours.norm(dim=1), theirs.norm(dim=1), atol=1e-4)
    return ours.shape == theirs.shape and bool((cosines >= 0.99999).all()) and same_lengths


@pytest.fixture
def folder(tmp_path):
    """A BERT with a dense layer and normalisation, to break."""
    return make_folder(tmp_path / "model", "bert", head=[make_dense(16, 16), Normalize()])


def rewrite_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# ours to ours


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_encoder_reloads_identically(family, tmp_path):
    encoder = make_encoder(family, prompts=PROMPTS, max_length=12, head=[make_dense(16, 8, activation="Tanh"), Normalize()])
    vectors = {role: encoder.encode(TEXTS, role) for role in ROLES}
    encoder.save_pretrained(tmp_path / "model")
    loaded = load_encoder(str(tmp_path / "model"))
    for role in ROLES:
        assert torch.equal(loaded.encode(TEXTS, role), vectors[role])
    assert loaded.settings == TextSettings(12, PROMPTS)
    assert (loaded.width, loaded.fingerprint(), loaded.backbone.training) == (8, encoder.fingerprint(), False)


@pytest.mark.parametrize("head", heads())
def test_every_head_reloads_identically(head, tmp_path):
    encoder = make_encoder("bert", pooling="cls", head=heads()[head])
    encoder.save_pretrained(tmp_path / "model")
    loaded = load_encoder(str(tmp_path / "model"))
    assert torch.equal(loaded.encode(TEXTS, "query"), encoder.encode(TEXTS, "query"))
    assert (loaded.fingerprint(), loaded.width) == (encoder.fingerprint(), encoder.width)


def test_saving_again_replaces_the_folder(tmp_path):
    make_encoder("bert", head=[make_dense(16, 8), Normalize()]).save_pretrained(tmp_path / "model")
    make_encoder("bert", head=[]).save_pretrained(tmp_path / "model")
    assert load_encoder(str(tmp_path / "model")).width == 16
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not list((tmp_path / "model").glob("2_*"))


def test_a_text_is_cut_to_the_maximum_length():
    encoder = make_encoder("bert", max_length=6)
    long, cut = "river music engine garden planet bread", "river music engine garden"
    assert encoder.token_ids([long], "query") == encoder.token_ids([cut], "query")
    assert [len(ids) for ids in encoder.token_ids([long, "river"], "query")] == [6, 3]  # [CLS] and [SEP] count


def test_the_prompt_of_the_role_stands_before_the_text():
    with_prompt, without = make_encoder("bert", prompts=PROMPTS), make_encoder("bert")
    for role, prompt in PROMPTS.items():
        assert torch.equal(with_prompt.encode(["river"], role), without.encode([prompt + "river"], role))


def test_vectors_do_not_depend_on_the_padding():
    encoder = make_encoder("modernbert")
    together = encoder.encode(TEXTS, "query")
    alone = torch.cat([encoder.encode([text], "query") for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "mpnet"])
def test_a_pooler_is_neither_made_nor_read(family, tmp_path):
    """Checkpoints often lack it; it would be made of random numbers and change the fingerprint."""
    folder = make_folder(tmp_path / "model", family)
    before = load_encoder(str(folder))
    weights = load_file(folder / "model.safetensors")
    assert not [name for name in weights if "pooler" in name]
    pooler = {"pooler.dense.weight": torch.randn(16, 16), "pooler.dense.bias": torch.randn(16)}
    save_file({**weights, **pooler}, folder / "model.safetensors", metadata={"format": "pt"})
    after = load_encoder(str(folder))
    assert not [name for name in after.state_dict() if "pooler" in name]
    assert after.fingerprint() == before.fingerprint()


# fingerprints


def test_the_fingerprint_changes_with_whatever_changes_a_vector():
    encoders = [
        make_encoder("bert"),
        make_encoder("bert", seed=1),
        make_encoder("bert", prompts=PROMPTS),
        make_encoder("bert", max_length=MAX_LENGTH - 1),
        make_encoder("bert", pooling="cls"),
        make_encoder("bert", head=[]),
        make_encoder("bert", head=[make_dense(16, 16)]),
        make_encoder("bert", head=[make_dense(16, 16, activation="Tanh")]),
    ]
    nudged = make_encoder("bert")
    with torch.no_grad():
        nudged.backbone.encoder.layer[1].output.dense.bias[0] += 1e-6
    cased = make_encoder("bert")
    cased.tokenizer.backend_tokenizer.normalizer.lowercase = False
    fingerprints = [encoder.fingerprint() for encoder in [*encoders, nudged, cased]]
    assert len(set(fingerprints)) == len(fingerprints)
    assert make_encoder("bert").fingerprint() == fingerprints[0]


def test_the_fingerprint_does_not_change_by_use():
    encoder = make_encoder("bert")
    before = encoder.fingerprint()
    encoder.encode(TEXTS, "query")
    encoder.tokenizer(TEXTS, padding=True, truncation=True, max_length=5)
    assert encoder.fingerprint() == before


# sentence-transformers reads ours, and we read theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_transformers_encodes_the_same(family, tmp_path):
    theirs = pytest.importorskip("sentence_transformers")
    encoder = make_encoder(family, prompts=PROMPTS, max_length=12)  # shorter than the tokenizer's own limit
    encoder.save_pretrained(tmp_path / "model")
    model = theirs.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    for role in ROLES:
        assert vectors_agree(encoder.encode(TEXTS, role), model.encode(TEXTS, prompt_name=role))
    assert model.get_max_seq_length() == 12


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("head", heads())
def test_sentence_transformers_reads_every_head(head, pooling, tmp_path):
    theirs = pytest.importorskip("sentence_transformers")
    encoder = make_encoder("bert", pooling=pooling, head=heads()[head])
    encoder.save_pretrained(tmp_path / "model")
    assert vectors_agree(encoder.encode(TEXTS, "query"), theirs.SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS))


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_folders_of_sentence_transformers_load(family, pooling, tmp_path, caplog):
    theirs = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    make_encoder(family).backbone.save_pretrained(tmp_path / "plain")
    make_tokenizer(family).save_pretrained(tmp_path / "plain")
    torch.manual_seed(2)
    parts = [
        modules.Transformer(str(tmp_path / "plain"), max_seq_length=14),
        modules.Pooling(16, pooling_mode=pooling),
        modules.Dense(16, 12),  # with a bias and their default, Tanh
        modules.Dense(12, 8, bias=False, activation_function=torch.nn.Identity()),
        modules.LayerNorm(8),
        modules.Normalize(),
    ]
    model = theirs.SentenceTransformer(modules=parts, device="cpu", prompts={"query": "find ", "passage": "letter "})
    model.save(str(tmp_path / "model"))
    with caplog.at_level("WARNING"):
        encoder = load_encoder(str(tmp_path / "model"))
    assert "prompts: passage: is read before documents, which encode_document of sentence-transformers 6 does not" in caplog.text
    assert (encoder.pooling.mode, encoder.settings) == (pooling, TextSettings(14, PROMPTS))
    assert vectors_agree(encoder.encode(TEXTS, "query"), model.encode(TEXTS, prompt_name="query"))
    assert vectors_agree(encoder.encode(TEXTS, "document"), model.encode(TEXTS, prompt_name="passage"))


def test_their_module_types_are_the_new_ones(tmp_path):
    """Guards the test above: it must meet the type names of the installed release."""
    theirs = pytest.importorskip("sentence_transformers", minversion="6")
    make_folder(tmp_path / "ours", "bert")
    theirs.SentenceTransformer(str(tmp_path / "ours"), device="cpu").save(str(tmp_path / "theirs"))
    types = [entry["type"] for entry in json.loads((tmp_path / "theirs" / "modules.json").read_text())]
    assert "sentence_transformers.models.Transformer" not in types
    assert load_encoder(str(tmp_path / "theirs")).fingerprint() == load_encoder(str(tmp_path / "ours")).fingerprint()


def test_the_real_teacher_encodes_as_sentence_transformers_does(minilm):
    theirs = pytest.importorskip("sentence_transformers")
    texts = ["what is a dual encoder?", "Köln, 東京 and 12,000 others", "long " * 400]
    assert vectors_agree(load_encoder(minilm).encode(texts, "query"), theirs.SentenceTransformer(minilm, device="cpu").encode(texts))


# plain transformers folders and hub names


def test_a_plain_folder_needs_pooling_and_normalize(folder):
    vectors = {}
    for path in [folder / "modules.json", folder / "sentence_bert_config.json"]:
        path.unlink()
    for given in ({}, {"pooling": "mean"}, {"normalize": True}):
        with pytest.raises(BadInput, match=r"does not say how it pools: set pooling \(e.g. cls, mean or lasttoken\) and normalize"):
            load_encoder(str(folder), **given)
    for normalize in (True, False):
        vectors[normalize] = load_encoder(str(folder), "cls", normalize).encode(TEXTS, "query")
    expected = make_encoder("bert", pooling="cls", head=[]).encode(TEXTS, "query")
    torch.testing.assert_close(vectors[False], expected)
    torch.testing.assert_close(vectors[True], expected / expected.norm(dim=1, keepdim=True))


def test_a_sentence_transformers_folder_takes_no_pooling(folder):
    with pytest.raises(BadInput, match="leave pooling and normalize out"):
        load_encoder(str(folder), "mean", True)


def test_a_hub_name_offline_is_named():
    with pytest.raises(BadInput, match=r"no-such-team/no-such-model: no such folder.*HF_HUB_OFFLINE is set"):
        load_encoder("no-such-team/no-such-model")


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_half_precision_weights_become_float32(folder, stored):
    weights = {name: tensor.to(stored) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    rewrite_json(folder / "config.json", dtype=str(stored).removeprefix("torch."))
    encoder = load_encoder(str(folder))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert encoder.backbone.config.dtype == torch.float32  # a student cut from it is made in this format


# what is refused


def remove(name):
    return lambda folder: (folder / name).unlink()


def truncate(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def drop_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.2.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def reshape_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.2.output.dense.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN = {
    "no weights": (remove("model.safetensors"), "no file named model.safetensors"),
    "weights cut off": (truncate("model.safetensors"), r"model\.safetensors: damaged .*: restore it"),
    "weights lacking": (drop_a_weight, r"weights lack encoder\.layer\.2\.output\.dense\.weight"),
    "weights misshapen": (reshape_a_weight, "not a transformers model folder"),
    "no tokenizer": (remove("tokenizer.json"), "no tokenizer in it"),
    "no config": (remove("config.json"), "not a transformers model folder"),
    "no pooling": (lambda folder: shutil.rmtree(folder / "1_Pooling"), "no pooling settings here"),
    "no dense weights": (remove("2_Dense/model.safetensors"), r"2_Dense: the weights of this Dense module are missing or broken"),
    "dense weights cut off": (truncate("2_Dense/model.safetensors"), r"2_Dense: the weights of this Dense module are missing or broken"),
    "modules.json": (lambda folder: (folder / "modules.json").write_text("[{"), "module list is not valid JSON"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_named(fault, folder):
    damage, message = BROKEN[fault]
    damage(folder)
    with pytest.raises(BadInput, match=message) as error:
        load_encoder(str(folder))
    assert str(folder) in str(error.value)


POOLINGS = [
    {"pooling_mode_max_tokens": True},
    {"pooling_mode_mean_sqrt_len_tokens": True},
    {"pooling_mode_weightedmean_tokens": True},
    {"pooling_mode_lasttoken": True},
    {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
    {"pooling_mode_mean_tokens": False},
    {"pooling_mode": "max"},
    {"pooling_mode": ["cls", "mean"]},
    {"pooling_mode": ["mean", "cls", "lasttoken"]},
]


@pytest.mark.parametrize("settings", POOLINGS, ids=str)
def test_poolings_of_old_and_new_releases(settings, folder, tmp_path):
    """Read as sentence-transformers reads them, and written so that it reads them again."""
    theirs = pytest.importorskip("sentence_transformers", minversion="6")
    modes = settings.get("pooling_mode", [name for name, chosen in settings.items() if chosen])
    width = 16 * (1 if isinstance(modes, str) else max(1, len(modes)))
    entries = json.loads((folder / "modules.json").read_text())[:2]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **settings}))
    encoder = load_encoder(str(folder), normalize=False)
    vectors = encoder.encode(TEXTS, "query")
    assert encoder.width == vectors.shape[1] == width
    assert vectors_agree(vectors, theirs.SentenceTransformer(str(folder), device="cpu").encode(TEXTS))
    encoder.save_pretrained(tmp_path / "again")
    assert vectors_agree(vectors, theirs.SentenceTransformer(str(tmp_path / "again"), device="cpu").encode(TEXTS))
    assert load_encoder(str(tmp_path / "again"), normalize=False).fingerprint() == encoder.fingerprint()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_mode": ["mean", "cls"], "include_prompt": False}, r"include_prompt: false with pooling mean\+cls is not supported"),
        ({"pooling_mode": "sum"}, "pooling 'sum' is not supported: only cls, max"),
        ({"pooling_mode_attention": True}, "pooling_mode_attention: no setting"),
    ],
)
def test_other_poolings_are_refused(settings, message, folder):
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **settings}))
    with pytest.raises(BadInput, match=message):
        load_encoder(str(folder))


@pytest.mark.parametrize("out", [12, 16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_layers_with_a_residual_and_any_activation(activation, out, tmp_path):
    theirs = pytest.importorskip("sentence_transformers", minversion="6")
    modules = pytest.importorskip("sentence_transformers.models")
    make_encoder("bert").backbone.save_pretrained(tmp_path / "plain")
    make_tokenizer("bert").save_pretrained(tmp_path / "plain")
    torch.manual_seed(3)
    parts = [modules.Transformer(str(tmp_path / "plain"), max_seq_length=14), modules.Pooling(16), None]
    parts[2] = modules.Dense(16, out, activation_function=getattr(torch.nn, activation)(), use_residual=True)
    model = theirs.SentenceTransformer(modules=parts, device="cpu", similarity_fn_name="dot")
    model.save(str(tmp_path / "model"))
    encoder = load_encoder(str(tmp_path / "model"))
    assert vectors_agree(encoder.encode(TEXTS, "query"), model.encode(TEXTS))
    encoder.save_pretrained(tmp_path / "again")
    again = theirs.SentenceTransformer(str(tmp_path / "again"), device="cpu")
    assert vectors_agree(encoder.encode(TEXTS, "query"), again.encode(TEXTS))


@pytest.mark.parametrize(
    "settings",
    [{"activation_function": "torch.nn.modules.activation.Softmax"}, {"module_input_name": "token_embeddings"}],
    ids=str,
)
def test_other_dense_layers_are_refused(settings, folder):
    rewrite_json(folder / "2_Dense" / "config.json", **settings)
    with pytest.raises(BadInput, match="is not supported"):
        load_encoder(str(folder))


def test_two_modules_of_one_name_are_refused(folder):
    """sentence-transformers would run the last of them alone."""
    entries = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([{**entry, "name": "0"} for entry in entries]))
    with pytest.raises(BadInput, match=r"modules\.json: two modules have one name: give each its own"):
        load_encoder(str(folder))


def test_dropout_behind_pooling_does_nothing(folder):
    """As outside training in sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    expected = load_encoder(str(folder)).encode_query(["what is the river"])
    entries = json.loads((folder / "modules.json").read_text())
    (folder / "9_Dropout").mkdir()
    (folder / "9_Dropout" / "config.json").write_text('{"dropout": 0.2}')
    dropout = {"idx": 2, "name": "9", "path": "9_Dropout", "type": "sentence_transformers.models.Dropout"}
    (folder / "modules.json").write_text(json.dumps([*entries[:2], dropout, *entries[2:]]))
    np.testing.assert_array_equal(load_encoder(str(folder)).encode_query(["what is the river"]), expected)
    np.testing.assert_allclose(SentenceTransformer(str(folder), device="cpu").encode(["what is the river"]), expected, atol=1e-5)


@pytest.mark.parametrize("kinds", [["Transformer", "Pooling", "LSTM"], ["Transformer", "Dense"], ["Pooling", "Transformer"], ["BoW"]])
def test_other_modules_are_refused(kinds, folder):
    entries = [{"idx": i, "name": str(i), "path": "", "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(BadInput, match=" > ".join(kinds)):
        load_encoder(str(folder))


def test_a_module_of_a_package_that_is_not_imported_is_refused(folder):
    entries = json.loads((folder / "modules.json").read_text())
    entries[2]["type"] = "antigravity.Gate"
    (folder / "modules.json").write_text(json.dumps(entries))
    before = set(sys.modules)
    line = r"modules\.json: its module antigravity\.Gate is not known here: import the package that defines it first"
    with pytest.raises(BadInput, match=line):
        load_encoder(str(folder))
    assert "antigravity" not in set(sys.modules) - before  # a folder chooses no code that runs


@pytest.mark.parametrize(("family", "positions"), [("bert", 40), ("xlm-roberta", 40), ("mpnet", 40)])
def test_without_a_limit_the_position_table_sets_it(family, positions, tmp_path):
    """The RoBERTa line has two positions more in its table than it can use."""
    folder = make_folder(tmp_path / "model", family)
    (folder / "sentence_bert_config.json").unlink()
    rewrite_json(folder / "tokenizer_config.json", model_max_length=10**30)
    encoder = load_encoder(str(folder))
    assert encoder.settings.max_length == positions
    assert torch.isfinite(encoder.encode(["river " * 100], "query")).all()


def test_prompts_given_take_the_place_of_the_folders(tmp_path):
    folder = make_folder(tmp_path / "teacher", "bert", prompts={"query": "find ", "document": "text "})
    own, given = load_encoder(str(folder)), load_encoder(str(folder), prompts={"query": "ask "})
    assert given.settings.prompts == {"query": "ask ", "document": ""}
    text = "a small river"
    torch.testing.assert_close(given.encode([text], "query"), given.encode(["ask " + text], "document"))
    assert given.fingerprint() != own.fingerprint()
    with pytest.raises(BadInput, match="prompts: passage: there is one for query and one for document"):
        load_encoder(str(folder), prompts={"passage": "x"})


def test_a_folder_above_the_models_is_named_as_such(tmp_path: Path, teacher_folder: Path) -> None:
    model = Path(shutil.copytree(teacher_folder, tmp_path / "downloads" / "model"))
    with pytest.raises(BadInput, match=f"downloads: no model in this folder, .*there is one in {model}"):
        load_encoder(str(tmp_path / "downloads"))
