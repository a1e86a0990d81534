"""Which layers the student of a job keeps: of what texts it is chosen."""

from __future__ import annotations

import json

import pytest
from shrink_world import make_texts

from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromTeacher
from distill.shrinking import layers
from distill.shrinking.request import Request
from distill.shrinking.steps import prepare_job
from distill.shrinking.vectors import open_job_teacher


@pytest.fixture
def prepared(tmp_path, teacher_folder):
    """A request, its job and its texts, of a teacher that reads `find` before each query and does not pool it."""
    load_encoder(str(teacher_folder)).set_query_prompt("find ").save_pretrained(tmp_path / "teacher")
    path = tmp_path / "teacher" / "1_Pooling" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "include_prompt": False}))
    request = Request(str(tmp_path / "teacher"), queries=make_texts(50, 9, seed=1), out=tmp_path / "out")
    return request, *prepare_job(request, open_job_teacher(request))


def test_a_sample_is_read_with_the_prompt_as_students_read_it(prepared, monkeypatch):
    given = []
    monkeypatch.setattr(layers, "MOST_TEXTS", 10)
    monkeypatch.setattr(layers, "choose_alike_layers", lambda *args: given.append(args) or [[3], [1, 3]])
    request, job, texts = prepared
    assert layers.name_layers_once(request, job, texts, [StudentFromTeacher(2)]) == [StudentFromTeacher([1, 3])]
    encoder, most, token_ids, targets = given[0]
    prompt = encoder.tokenizer("find")["input_ids"][:-1]
    assert most == 2 and len(token_ids) == len(targets) == 10
    assert encoder.pooling.include_prompt and all(ids[: len(prompt)].tolist() == prompt for ids in token_ids)
    monkeypatch.undo()
    assert layers.choose_layers(request, texts, StudentFromTeacher(2), 2)[0] == [3]
