import pytest
import torch
from families import make_cross

from distill.records import BadInput
from distill.teachers.options import TeacherOptions, check_options, open_embedder, open_pair_embedder

CPU = torch.device("cpu")


def test_a_user_says_how_many_tokens_go_through_a_model_at_once(teacher_folder, tmp_path):
    asked = TeacherOptions(tokens_per_batch=100)
    towers = open_embedder(str(teacher_folder), check_options(str(teacher_folder), asked, None, None), asked, None).towers
    assert (towers.query.budget.tokens(CPU), towers.document.budget.tokens(CPU)) == (100, 100)
    cross = str(tmp_path / "cross")
    make_cross("bert").save_pretrained(cross)
    assert open_pair_embedder(cross, check_options(cross, asked, None, "mined"), asked).encoder.budget.tokens(CPU) == 100


def test_no_tokens_and_another_machines_are_refused():
    with pytest.raises(BadInput, match="tokens_per_batch: 0: must be at least 1"):
        TeacherOptions(tokens_per_batch=0)
    with pytest.raises(BadInput, match="tokens_per_batch: for a dual encoder or a cross encoder as the teacher, this one is a server"):
        check_options("http://localhost:8080/v1", TeacherOptions(tokens_per_batch=9, model="m"), None, None)
