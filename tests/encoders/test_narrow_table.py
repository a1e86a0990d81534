"""Students whose word table has narrower rows than their layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import make_encoder, make_folder
from plain_folders import USUAL, make_words
from teacher_families import write_teacher
from transformers import AlbertConfig, BertConfig

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.modules import Transformer
from distill.encoders.narrow_table import narrow_table, read_tables
from distill.encoders.pooling import Pooling
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, TeacherSpace
from distill.encoders.tokenizing import TextSettings, no_prompts
from distill.encoders.transformer_folder import new_backbone
from distill.encoders.vocabulary import prune_vocabulary
from distill.modules.optimizer import make_adamw
from distill.records import BadInput

TEXTS = ["hello the river", "one two world", "naïve 東京", "river " * 20]
SMALL = ["what is the best river", "old garden", "small planet letter"]
WIDTH = 6


def read_ids(encoder: Encoder, texts: list[str]) -> list[np.ndarray]:
    return [np.array(ids) for ids in encoder.token_ids(texts, "query")]


def make_space(folder, width: int = 16) -> TeacherSpace:
    return TeacherSpace(Maker(str(folder), load_encoder(str(folder)).fingerprint()), width, True)


def make_of(config) -> Encoder:
    """A small random encoder of whole words."""
    torch.manual_seed(0)
    tokenizer = make_words(pad_token="<pad>", unk_token="<unk>")
    config.vocab_size = len(tokenizer)
    return Encoder([Transformer(new_backbone(config).eval()), Pooling("mean")], tokenizer, TextSettings(16, no_prompts())).eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["BERT", "RoBERTa", "XLM-RoBERTa", "ELECTRA"])
def test_its_folder_is_read_cut_and_pruned_as_any_other(family, tmp_path):
    """Here and in sentence-transformers, with the tokenizer class of each family's real folders; the rows of ELECTRA have 8 numbers."""
    theirs = pytest.importorskip("sentence_transformers", minversion="6")
    whole = load_encoder(write_teacher(tmp_path / "teacher", family))
    narrow = narrow_table(whole, WIDTH, read_ids(whole, TEXTS))
    assert narrow.word_table.weight.shape == (len(whole.word_table.weight), WIDTH) and narrow.width == whole.width
    assert narrow.transformer.positions == whole.transformer.positions
    narrow.save_pretrained(tmp_path / "narrow")
    again = load_encoder(str(tmp_path / "narrow"))
    assert again.fingerprint() == narrow.fingerprint() and again.settings == narrow.settings == whole.settings
    model = theirs.SentenceTransformer(str(tmp_path / "narrow"), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS, batch_size=2), narrow.encode_query(TEXTS), atol=1e-5)
    cut = StudentFromBackbone(str(tmp_path / "narrow"), keep_layers=[0, 2]).build(make_space(tmp_path / "narrow"))
    assert cut.backbone.config.num_hidden_layers == 2 and cut.word_table.embedding_dim == WIDTH
    counts = np.bincount(np.concatenate(read_ids(again, TEXTS[:2])), minlength=len(again.word_table.weight))
    pruned = prune_vocabulary(again, counts, "used")
    torch.testing.assert_close(pruned.encode(TEXTS[:2], "query"), narrow.encode(TEXTS[:2], "query"), atol=1e-6, rtol=0)


def test_a_table_that_has_only_so_many_directions_loses_nothing():
    """Words in three directions, each with its opposite, and no positions: four numbers hold three, beside the mean that the norm takes."""
    whole = make_of(BertConfig(**USUAL, initializer_range=0.2))
    embeddings = whole.backbone.embeddings
    directions = torch.randn(3, 16)
    directions -= directions.mean(dim=1, keepdim=True)
    words = torch.randn(5, 3) @ directions
    with torch.no_grad():
        embeddings.word_embeddings.weight[:10] = torch.cat([words, -words])
        embeddings.word_embeddings.weight[10:].zero_()
        embeddings.position_embeddings.weight.zero_()
        embeddings.token_type_embeddings.weight.zero_()
        embeddings.LayerNorm.bias.normal_()
    narrow = narrow_table(whole, 4, [np.arange(10)] * 8)
    texts = ["what is the best river", "music"]
    torch.testing.assert_close(narrow.encode(texts, "query"), whole.encode(texts, "query"), atol=1e-3, rtol=0)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
@torch.inference_mode()
def test_tables_are_read_as_the_model_reads_them(family):
    """Positions of XLM-RoBERTa begin behind that of padding."""
    encoder = make_encoder(family)
    ids = torch.tensor(encoder.token_ids([SMALL[0]], "query")[0])
    torch.testing.assert_close(read_tables(encoder.backbone, ids, torch.arange(len(ids))), encoder.backbone.embeddings(ids[None])[0])


def test_texts_say_which_tokens_count():
    """On their own tokens narrow rows are nearer to the wide ones than rows that were fitted to other texts."""
    whole = make_encoder("bert", width=32)
    ids, others = read_ids(whole, SMALL[:2]), read_ids(whole, ["night morning"])
    tokens, places = (torch.from_numpy(np.concatenate(parts)) for parts in (ids, [np.arange(len(text)) for text in ids]))
    with torch.inference_mode():
        wide = read_tables(whole.backbone, tokens, places)
        fitted, unfitted = (read_tables(narrow_table(whole, 8, given).backbone, tokens, places) for given in (ids, others))
    assert (fitted - wide).norm() < 0.8 * (unfitted - wide).norm()


def test_a_student_has_fewer_tokens_and_narrow_rows_that_are_fitted_to_its_queries(tmp_path):
    folder = make_folder(tmp_path / "teacher", "bert", prompts={"query": "find ", "document": ""})
    asked = []

    def read_targets(student, most):
        asked.append(student)
        assert most == 10_000
        return read_ids(student, SMALL), np.zeros((len(SMALL), 16), np.float32)

    def count_tokens(encoder):
        return np.bincount(np.concatenate(read_ids(encoder, SMALL)), minlength=len(encoder.word_table.weight))

    student = StudentFromTeacher([0, 3], vocabulary="used", table_width=WIDTH).make_student(
        make_space(folder), None, count_tokens, read_targets
    )
    assert student.word_table.weight.shape == (len(student.tokenizer), WIDTH) == (len(asked[0].tokenizer), WIDTH)
    assert len(student.tokenizer) < len(load_encoder(str(folder)).tokenizer) and student.settings.prompts["query"] == "find "
    states = StudentFromTeacher([0, 3]).make_student(make_space(folder)).backbone.encoder.state_dict()
    assert all(torch.equal(weight, states[name]) for name, weight in student.backbone.encoder.state_dict().items())
    assert student.backbone.config.hidden_dropout_prob == 0


def test_a_step_changes_the_rows_of_its_batch_alone():
    student = narrow_table(make_encoder("bert"), WIDTH)
    student.word_table.sparse = True
    before = student.word_table.weight.detach().clone()
    tokens = student.pad(student.token_ids(SMALL, "query"))
    student(tokens)[:, 0].sum().backward()
    assert student.word_table.weight.grad.is_sparse
    make_adamw(student, 1e-3).step()
    changed = (student.word_table.weight != before).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == sorted(set(tokens.input_ids.flatten().tolist()) - {student.tokenizer.pad_token_id})


@pytest.mark.parametrize("family", ["mpnet", "distilbert", "modernbert"])
def test_other_families_are_refused(family):
    with pytest.raises(BadInput, match=f"^table_width: {family}: only rows of bert, .* can be made narrower: leave table_width out"):
        narrow_table(make_encoder(family), WIDTH)


@pytest.mark.parametrize(
    "config", [AlbertConfig(**USUAL, embedding_size=8), BertConfig(**USUAL, is_decoder=True)], ids=["albert", "decoder"]
)
def test_models_whose_layers_are_no_electras_are_refused(config):
    with pytest.raises(BadInput, match=f"^table_width: (a )?{config.model_type}.*leave table_width out"):
        narrow_table(make_of(config), WIDTH)


@pytest.mark.parametrize("width", [16, 20])
def test_rows_as_wide_as_before_are_refused(width):
    with pytest.raises(BadInput, match=rf"^table_width: {width}: a row has 16 numbers: give fewer, from 2 to 15"):
        narrow_table(make_encoder("bert"), width)


@pytest.mark.parametrize("width", [0, 1, True, "128"])
def test_what_is_no_width_is_refused(width):
    for make in (StudentFromTeacher, lambda **given: StudentFromBackbone("acme/small", **given)):
        with pytest.raises(BadInput, match=r"table_width: .*: give how many numbers a row of the word table has"):
            make(table_width=width)


@pytest.mark.slow
def test_a_graph_of_it_gives_its_vectors(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from distill.encoders.onnx_encoder import MODEL, OnnxEncoder
    from distill.export.onnx_graph import write_graph

    narrow = narrow_table(make_encoder("xlm-roberta"), WIDTH)
    narrow.save_pretrained(tmp_path / "narrow")
    (tmp_path / "narrow" / MODEL).parent.mkdir()
    write_graph(narrow, tmp_path / "narrow" / MODEL)
    np.testing.assert_allclose(OnnxEncoder(tmp_path / "narrow").encode_query(SMALL), narrow.encode_query(SMALL), atol=1e-5)
