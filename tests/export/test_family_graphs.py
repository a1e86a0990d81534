"""Students of all families of teachers become ONNX graphs that give PyTorch's vectors; docs/which-teachers.md has the table."""

from __future__ import annotations

import numpy as np
import pytest
from teacher_families import FAMILIES, OWN_CODE, TEXTS, WIDTH, cut_student, write_teacher
from teachers_table import check_cells

from distill.encoders.maker import Maker
from distill.encoders.onnx_encoder import MODEL, OnnxEncoder
from distill.encoders.students import StudentFromBackbone, TeacherSpace
from distill.export.onnx_graph import check_equal, write_graph

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("sentence_transformers", minversion="6")

WHOLE = ("ALBERT",)  # cannot be cut; is a student as it is
MIXED = ("Gemma 3", "Gemma 3, reading both ways", "ModernBERT", "T5 encoder")  # not all layers of one model are alike


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_graph_of_a_student_equals_pytorch(family, tmp_path):
    if family == OWN_CODE:
        check_cells(family, ONNX="no student")
        return
    folder = write_teacher(tmp_path, family, ["lasttoken", "mean"])
    if family in WHOLE:
        student = StudentFromBackbone(folder).make_student(TeacherSpace(Maker("teacher", "1f"), 2 * WIDTH, normalized=True)).eval()
    else:
        student = cut_student(folder, layers=2 if family in MIXED else 1)
    student.save_pretrained(tmp_path / "student")
    (tmp_path / "student" / MODEL).parent.mkdir()
    write_graph(student, tmp_path / "student" / MODEL)
    served = OnnxEncoder(tmp_path / "student")
    np.testing.assert_allclose(served.encode_query(TEXTS), student.encode_query(TEXTS), atol=1e-5)
    check_equal(student, served, TEXTS)
    check_cells(family, ONNX="yes, as a backbone" if family in WHOLE else "yes")
