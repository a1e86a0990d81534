"""Students that are a table of tokens: their start, their training, and what they refuse."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import distill, furthest, in_process, train_arguments
from families import FAMILIES, make_encoder, make_folder
from tokenizers import processors

import distill as package
from distill.data.datamodule import RetrievalData
from distill.data.targets import read_targets
from distill.encoders.fit_table import mean_matrix
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.modules import Normalize
from distill.encoders.static_student import StaticStudent, embed_tokens, list_token_queries
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, TeacherSpace
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv

STATIC = ["--model.student", "StaticStudent", "--checkpoint_every_n_steps", 2]


def make_space(folder: Path, width: int = 16) -> TeacherSpace:
    return TeacherSpace(Maker(str(folder), load_encoder(str(folder)).fingerprint()), width, normalized=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_begins_as_the_teachers_vectors_of_single_tokens(family, tmp_path):
    teacher = load_encoder(str(make_folder(tmp_path / "teacher", family)))
    student = StaticStudent().build(make_space(tmp_path / "teacher"))
    rows, tokenizer = student.word_table.weight.detach(), teacher.tokenizer
    assert len(rows) == 1 + max(tokenizer.get_vocab().values()) and isinstance(student.head[-1], Normalize)
    shared = torch.from_numpy(np.array(embed_tokens(teacher))).mean(dim=0)  # by all tokens
    alone = []
    for word in ("river", "garden"):
        (id_,) = student.token_ids([word], "query")[0]
        alone.append(teacher.encode(word, "query") - shared)
        torch.testing.assert_close(rows[id_], alone[-1], atol=1e-6, rtol=1e-4)
    expected = torch.nn.functional.normalize(alone[0] + alone[1], dim=0)
    torch.testing.assert_close(student.encode("river garden", "query"), expected, atol=1e-5, rtol=1e-4)


def test_tokens_stand_where_a_query_would():
    """Behind the prompt of the teacher, whose tokens are marked where pooling leaves them out, and between its special tokens."""
    encoder = make_encoder("bert", prompts={"query": "find the ", "document": ""})
    ids = encoder.tokenizer.convert_tokens_to_ids
    queries = list_token_queries(encoder)
    assert queries[9] == [ids("[CLS]"), ids("find"), ids("the"), 9, ids("[SEP]")]
    assert queries[ids("river")] == encoder.token_ids(["river"], "query")[0]
    encoder.pooling.include_prompt = False
    assert list_token_queries(encoder)[ids("river")] == encoder.token_ids(["river"], "query")[0]
    encoder.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("$A", None, [])
    encoder.set_query_prompt("")
    assert list_token_queries(encoder)[9] == [9]


def test_the_start_is_embedded_once(tmp_path, monkeypatch):
    teacher = load_encoder(str(make_folder(tmp_path / "teacher", "bert", seed=5)))
    rows = embed_tokens(teacher)
    monkeypatch.setattr("distill.encoders.static_student.encode_token_ids", None)
    np.testing.assert_array_equal(embed_tokens(teacher), rows)


def test_a_table_can_be_a_teacher_of_tables_and_a_backbone_but_not_be_cut(tmp_path):
    StaticStudent().build(make_space(make_folder(tmp_path / "teacher", "bert"))).save_pretrained(tmp_path / "static")
    static, space = load_encoder(str(tmp_path / "static")), make_space(tmp_path / "static")
    rows = static.word_table.weight.data
    torch.testing.assert_close(StudentFromBackbone(str(tmp_path / "static")).build(space).word_table.weight.data, rows)
    vectors = torch.nn.functional.normalize(rows, dim=1)
    torch.testing.assert_close(StaticStudent().build(space).word_table.weight.data, vectors - vectors.mean(dim=0))
    assert StudentFromBackbone(str(tmp_path / "static"), projection="linear").build(make_space(tmp_path / "static", 5)).width == 5
    for spec in (StudentFromTeacher(2), StudentFromBackbone(str(tmp_path / "static"), keep_layers=1)):
        with pytest.raises(BadInput, match="the encoder is a table of tokens, without layers"):
            spec.build(space)


def test_a_teacher_of_another_width_is_refused(tmp_path):
    wide = str(make_folder(tmp_path / "wide", "bert", width=32))
    with pytest.raises(BadInput, match="wide: 32 wide, the teacher's vectors are 16: take the store's maker"):
        StaticStudent(teacher=wide).build(make_space(make_folder(tmp_path / "teacher", "bert")))


def test_only_an_open_teacher_has_vectors_of_tokens(tmp_path):
    with pytest.raises(BadInput, match="ada: the model is not here, its vectors came from an endpoint"):
        StaticStudent().build(TeacherSpace(Maker("ada", "1f", "server"), 16, True))


@pytest.fixture(scope="module")
def static_run(source_root: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static") / "run"
    fast = ["--model.learning_rate", 0.05, "--trainer.max_epochs", 4]
    assert distill(*train_arguments(source_root, store_folder, folder, *STATIC, *fast)) == 0
    return folder


def test_it_learns(static_run, store_folder):
    log = [json.loads(line) for line in (static_run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/query_matching"] for line in log if "train/query_matching" in line]
    assert len(losses) == 24 and sum(losses[-6:]) < 0.85 * sum(losses[:6])
    student = load_encoder(str(static_run / "student"))
    assert student.parameter_count() == student.word_table.weight.numel()


def test_a_step_makes_no_gradient_of_the_whole_table(source_root, store_folder, tmp_path, monkeypatch):
    gradients = []
    monkeypatch.setattr(
        StudentModule, "on_before_optimizer_step", lambda module, _: gradients.append(module.encoder.word_table.weight.grad), raising=False
    )
    module = StudentModule(StaticStudent())
    package.train(module, RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), batch_size=16), tmp_path / "run", max_epochs=1)
    assert len(gradients) == 6 and all(gradient.is_sparse for gradient in gradients)


def test_a_stopped_run_goes_on_exactly(source_root, store_folder, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert distill(*train_arguments(source_root, store_folder, whole, *STATIC)) == 0
    arguments = train_arguments(source_root, store_folder, stopped, *STATIC)
    callback = {"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_end", "step": 5}}
    assert in_process(*arguments, "--trainer.callbacks", json.dumps([callback])).returncode == -signal.SIGKILL
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert distill(*arguments) == 0
    for name in ("last", "best"):
        assert furthest(whole / "checkpoints" / f"{name}.ckpt", stopped / "checkpoints" / f"{name}.ckpt") == 0


def test_the_closed_form_is_nearer_to_the_teacher(source_root, store_folder):
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder))
    data.setup("fit")
    distances = []
    for is_fitted in (False, True):
        module = StudentModule(StaticStudent())
        module.prepare(data, load_start=is_fitted)
        token_ids, targets = read_targets(data, module.encoder, 500)
        assert len(token_ids) == len(targets) == 96
        means = mean_matrix(token_ids, len(module.encoder.word_table.weight)) @ module.encoder.word_table.weight.detach().numpy()
        distances.append(float(np.square(means - targets).sum()))
    assert distances[1] < 0.5 * distances[0]
