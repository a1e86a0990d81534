"""What an encoder gives for texts, and that what release 0.1 wrote still names the same weights and the same encoder."""

import copy
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from families import make_dense, make_encoder

from distill.encoders import device_batches
from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.modules import LayerNorm, Normalize
from distill.encoders.pooling import Pooling
from distill.encoders.tokenizing import TextSettings
from distill.encoders.towers import Towers, load_towers
from distill.records import BadInput

TEXTS = ["what is the best river", "garden", "how to find a large old engine near the market"]
PROMPTS = {"query": "find ", "document": "letter "}
RELEASE = Path(__file__).parents[1] / "release" / "release-0.1.tar.xz"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The folder of a model, and a run whose checkpoints hold a student of it, as release 0.1 wrote them."""
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(RELEASE) as archive:
        archive.extractall(folder, filter="data")
    return folder


# release 0.1


def test_the_fingerprint_of_a_model_is_what_stores_of_the_release_hold(released):
    assert load_encoder(str(released / "model")).fingerprint() == "6093521e397e2adc"


def test_checkpoints_of_the_release_load(released):
    state = torch.load(released / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    weights = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
    assert all(name.startswith("backbone.") for name in weights)
    student = load_encoder(str(released / "run" / "student"))
    assert {name: tensor.tolist() for name, tensor in student.state_dict().items()} == {n: t.tolist() for n, t in weights.items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    student.load_state_dict(weights)
    assert student.fingerprint() == load_encoder(str(released / "run" / "student")).fingerprint()


def test_names_of_weights_are_those_of_the_release_wherever_the_encoder_stands():
    encoder = make_encoder("bert", head=[make_dense(16, 8), LayerNorm(8), Normalize()])
    towers = torch.nn.ModuleDict({"query": encoder, "document": make_encoder("bert", head=[], seed=1)})
    names = list(towers.state_dict())
    assert "query.backbone.embeddings.word_embeddings.weight" in names
    assert {name for name in names if "head" in name} == {f"query.head.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert not [name for name in names if "transformer" in name]
    changed = {name: tensor + 1 for name, tensor in towers.state_dict().items()}
    towers.load_state_dict(changed)
    assert all(torch.equal(tensor, changed[name]) for name, tensor in towers.state_dict().items())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda encoder: pickle.loads(pickle.dumps(encoder))], ids=["copy", "pickle"])
def test_a_copy_loads_its_own_weights(duplicate):
    encoder = make_encoder("bert")
    other = duplicate(encoder)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in other.state_dict().items()}
    other.load_state_dict(zeros)
    assert all(not tensor.any() for tensor in other.state_dict().values())
    assert all(name.startswith("backbone.") for name in other.state_dict())
    assert encoder.fingerprint() == make_encoder("bert").fingerprint()


def test_the_transformers_weights_come_first_in_an_optimizer():
    """Optimizer states in checkpoints are by position."""
    encoder = make_encoder("bert", head=[make_dense(16, 8)])
    names = [name for name, _ in encoder.named_parameters()]
    assert [name for name in names if name.startswith("head")] == names[-2:] == ["head.0.weight", "head.0.bias"]


# how modules may follow one another


def test_modules_in_another_order_are_refused():
    encoder = make_encoder("bert")
    for modules, kinds in (([], "no modules"), ([encoder.transformer, Normalize()], "Transformer > Normalize")):
        with pytest.raises(BadInput, match=f"^{kinds}: an encoder begins with Transformer > Pooling or TokenTable > Pooling$"):
            Encoder(modules, encoder.tokenizer, encoder.settings)
    with pytest.raises(BadInput, match="Transformer > Pooling > Tanh: Tanh is no EncoderModule: derive it from that class"):
        Encoder([encoder.transformer, Pooling("cls"), torch.nn.Tanh()], encoder.tokenizer, encoder.settings)


@pytest.mark.parametrize("module", [make_dense(24, 8), LayerNorm(24)], ids=["Dense", "LayerNorm"])
def test_a_module_of_another_width_is_refused(module):
    with pytest.raises(BadInput, match=f"{type(module).__name__} takes vectors 24 wide, those before it are 16"):
        make_encoder("bert", head=[module])


def test_modules_run_in_their_order_by_hand():
    dense, norm = make_dense(16, 8), LayerNorm(8)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(8.0))
        norm.bias.fill_(0.5)
    encoder = make_encoder("bert", head=[dense, norm, Normalize()])
    pooled = torch.from_numpy(make_encoder("bert", head=[]).encode_query(TEXTS))  # [N, 16]
    changed = pooled @ dense.weight.detach().T + dense.bias.detach()  # [N, 8]
    centred = changed - changed.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * torch.arange(8.0) + 0.5
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(torch.from_numpy(encoder.encode_query(TEXTS)), expected, atol=1e-5, rtol=0)
    assert (encoder.width, encoder.normalizes) == (8, True)


def test_an_encoder_is_made_of_the_modules_of_another():
    encoder = make_encoder("bert", head=[make_dense(16, 8), Normalize()])
    longer = Encoder(encoder.module_list[:-1], encoder.tokenizer, TextSettings(12))
    assert not longer.normalizes
    lengths = np.linalg.norm(longer.encode_query(TEXTS), axis=1, keepdims=True)
    np.testing.assert_allclose(longer.encode_query(TEXTS) / lengths, encoder.encode_query(TEXTS), atol=1e-6)


def test_without_padding_the_transformer_gets_no_mask():
    encoder, masks = make_encoder("bert"), []
    encoder.backbone.register_forward_pre_hook(lambda module, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True)
    for texts in (["river", "garden"], ["river", "a garden"]):
        encoder.encode(texts, "query")
    assert masks[0] is None and masks[1].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


# texts to numpy


@pytest.fixture(scope="module")
def towers():
    return Towers(make_encoder("bert", prompts=PROMPTS), make_encoder("bert", prompts=PROMPTS, seed=1))


@pytest.mark.parametrize("which", ["encoder", "towers"])
def test_many_texts_give_rows_and_one_text_a_vector(which, towers):
    model = towers if which == "towers" else towers.query
    for encode, role in ((model.encode_query, "query"), (model.encode_document, "document")):
        vectors = encode(TEXTS)
        assert vectors.dtype == np.float32 and vectors.shape == (3, 16)
        np.testing.assert_allclose(vectors, model.encode(TEXTS, role).numpy(), atol=1e-6)
        np.testing.assert_allclose(encode(TEXTS[1]), vectors[1], atol=1e-6)
        assert encode(tuple(TEXTS[:1])).shape == (1, 16)
        assert encode([]).shape == (0, 16)
    for role in ("query", "document"):
        assert model.encode(TEXTS[0], role).shape == (model.width,)
        torch.testing.assert_close(model.encode(TEXTS[0], role), model.encode(TEXTS[:1], role)[0])
    assert not np.allclose(model.encode_query(TEXTS), model.encode_document(TEXTS), atol=1e-2)


def test_similarity_is_the_inner_product(towers):
    queries, documents = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    for model in (towers, towers.query):
        assert model.similarity(queries, documents).tolist() == [[11, 17, 23], [4, 6, 8]]
        assert model.similarity(queries[0], documents[0]).tolist() == [[11]]
        assert model.similarity(model.encode_query(TEXTS), model.encode_document("river")).shape == (3, 1)


def test_a_bar_is_shown_for_long_work_alone(towers, monkeypatch, capsys):
    towers.encode_query(TEXTS)
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(device_batches.TOKENS_PER_BATCH, "cpu", 8)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    towers.encode_query(TEXTS * 30)
    assert "encode query: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("shared", [True, False])
def test_towers_are_saved_and_load_again(shared, towers, tmp_path):
    saved = Towers(towers.query) if shared else towers
    saved.save_pretrained(tmp_path / "model")
    loaded = load_towers(str(tmp_path / "model"))
    assert loaded.shared == shared
    assert loaded.fingerprint() == saved.fingerprint()
    np.testing.assert_array_equal(loaded.encode_query(TEXTS), saved.encode_query(TEXTS))
    np.testing.assert_array_equal(loaded.encode_document(TEXTS), saved.encode_document(TEXTS))


def test_towers_of_different_width_are_refused():
    with pytest.raises(BadInput, match="the query tower is 16 wide, the document tower 8: they need one space"):
        Towers(make_encoder("bert"), make_encoder("bert", head=[make_dense(16, 8)]))


def test_the_fastest_attention_is_chosen_where_texts_are_short():
    short, long = make_encoder("bert"), make_encoder("bert")
    long.settings = TextSettings(513)
    for encoder, attention in ((short, "eager"), (long, "sdpa")):
        encoder.backbone.set_attn_implementation("sdpa")
        encoder.prepare_for(torch.device("cpu"))
        assert encoder.backbone.config._attn_implementation == attention
