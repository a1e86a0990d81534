"""Folders of sentence-transformers without a transformer, or with more behind it than is read here: judged as students and baselines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import distill
from conftest import TOPICS, WORDS
from families import make_folder
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

import distill as package
from distill.evaluation.systems import open_system
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv

theirs = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.models")
tokenizer = pytest.importorskip("sentence_transformers.models.tokenizer")

KINDS = ["StaticEmbedding", "WordEmbeddings", "CNN", "LSTM", "BoW", "WeightedLayerPooling"]
TEXTS = ["what is the best river", "a garden near the old market", "letter", "words that nobody knows", ""]
WIDTH = 32  # of the small world's teacher


def make_modules(kind: str, folder: Path) -> list:
    vocabulary = TOPICS + WORDS
    if kind == "StaticEmbedding":
        core = Tokenizer(WordLevel({word: i for i, word in enumerate(["[UNK]", *vocabulary])}, unk_token="[UNK]"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        return [modules.StaticEmbedding(core, embedding_dim=WIDTH)]
    if kind == "BoW":
        return [modules.BoW(vocabulary)]
    if kind == "WeightedLayerPooling":
        transformer = modules.Transformer(
            str(make_folder(folder / "bert", "bert", width=WIDTH)), config_args={"output_hidden_states": True}
        )
        return [transformer, modules.WeightedLayerPooling(WIDTH, num_hidden_layers=4, layer_start=1), modules.Pooling(WIDTH)]
    table = np.random.default_rng(0).standard_normal((len(vocabulary) + 1, WIDTH)).astype(np.float32)
    words = modules.WordEmbeddings(tokenizer.WhitespaceTokenizer(vocabulary), table)
    behind = {
        "CNN": [modules.CNN(WIDTH, WIDTH // 2, [1, 3])],
        "LSTM": [modules.LSTM(WIDTH, WIDTH // 2)],
    }
    return [words, *behind.get(kind, []), modules.Pooling(WIDTH)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    for kind in KINDS:
        theirs.SentenceTransformer(modules=make_modules(kind, root), device="cpu").save_pretrained(
            str(root / kind), create_model_card=False
        )
    return {kind: root / kind for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_sentence_transformers(kind, folders):
    system = open_system(str(folders[kind]))
    model = theirs.SentenceTransformer(str(folders[kind]), device="cpu")
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        # they compare by cosine: one length for all
        np.testing.assert_allclose(system.encode(TEXTS, role), encode(TEXTS, normalize_embeddings=True), atol=1e-6)
    assert system.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_judged_as_students(kind, folders, teacher_folder, source_root, tmp_path, capsys):
    judge = ["evaluate", "--student", folders[kind], "--teacher", teacher_folder, "--source", "MsMarcoTsv", "--source.root", source_root]
    code = distill(*judge, "--out", tmp_path / "results.json")
    printed = capsys.readouterr()
    assert ("embedded by sentence-transformers" in printed.out + printed.err) == (kind != "StaticEmbedding")
    if kind == "BoW":  # as wide as its vocabulary
        assert code == 2 and "27 wide, the documents' 32, so they are not in one space: evaluate it with documents=" in printed.err
        assert distill(*judge, "--documents", "student", "--out", tmp_path / "results.json") == 0
    else:
        assert code == 0 and "overlap@10" in printed.out


@pytest.mark.parametrize("kind", ["BoW", "WeightedLayerPooling"])
def test_as_teachers_they_are_handed_over_from_python(kind, folders, source_root, tmp_path, capsys):
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    assert distill("encode", "--teacher", folders[kind], *source, "--out", tmp_path / "store") == 2
    printed = capsys.readouterr().err
    call = f'distill.encode(SentenceTransformer("{folders[kind]}"), source, out, name="mine")'
    assert (
        "an encoder begins with Transformer > Pooling, or with StaticEmbedding: where sentence-transformers" in printed and call in printed
    )
    assert printed.count("\n") == 1 and not (tmp_path / "store").exists()
    store = package.encode(
        theirs.SentenceTransformer(str(folders[kind])), MsMarcoTsv(str(source_root)), str(tmp_path / "store"), name="mine"
    )
    assert store.maker.name == "mine" and store.documents.normalized


def test_a_static_folder_is_a_teacher(folders, source_root, tmp_path):
    """On the command line, as its modules are known here; its vectors are those of sentence-transformers."""
    source = ["--source", "MsMarcoTsv", "--source.root", source_root]
    assert distill("encode", "--teacher", folders["StaticEmbedding"], *source, "--out", tmp_path / "store") == 0
    store = package.TeacherStore(str(tmp_path / "store")).documents
    model = theirs.SentenceTransformer(str(folders["StaticEmbedding"]), device="cpu")
    texts = MsMarcoTsv(str(source_root)).documents().read(np.arange(5))
    rows = store.ids.rows([MsMarcoTsv(str(source_root)).documents().ids[row] for row in range(5)])
    np.testing.assert_allclose(store.take(rows), model.encode(texts, normalize_embeddings=True), atol=1e-3)  # stored in 16 bits
    assert store.maker.max_length is None


def test_texts_that_a_folder_cannot_embed_end_in_one_line(folders, tmp_path):
    model = theirs.SentenceTransformer(str(folders["WordEmbeddings"]), device="cpu")
    model[0].emb_layer = type(model[0].emb_layer)(3, WIDTH)  # fewer rows than its tokenizer has words
    model.save_pretrained(str(tmp_path / "short"), create_model_card=False)
    with pytest.raises(BadInput, match=r"short: sentence-transformers cannot embed these texts with it \(\w+: .*\): mend the folder"):
        open_system(str(tmp_path / "short")).encode(["letter market"], "query")
