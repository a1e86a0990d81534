"""Folders of many architectures give sentence-transformers' vectors, whichever pooling, whichever side is padded; docs/ has the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_folders import rewrite_json
from teacher_families import FAMILIES, OWN_CODE, TEXTS, WIDTH, cut_student, write_teacher
from teachers_table import COLUMNS, PAGE, check_cells, read_rows, write_rows

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.modules_folder import read_pooling
from distill.encoders.pooling import MODES
from distill.files.atomic import read_json
from distill.records import BadInput

theirs = pytest.importorskip("sentence_transformers", minversion="6")
modules = pytest.importorskip("sentence_transformers.models")

POOLINGS: list[Any] = [*MODES, ["lasttoken", "mean"]]
COUNTS_FROM_PADDING = ("BERT", "DistilBERT", "ELECTRA", "ALBERT")  # under left padding sentence-transformers' vectors depend on the batch
NO_CUT = {
    "ALBERT": "albert: this architecture has no stack of 3 layers to cut",
    OWN_CODE: "runs Python code of its folder, a student does not",
}


def assert_same_direction(ours: np.ndarray, expected: np.ndarray) -> None:
    cosines = (ours * expected).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(expected, axis=1)
    assert (cosines >= 0.99999).all(), cosines


@torch.inference_mode()
def encode_with_each(model: Any, poolings: list[Any]) -> list[np.ndarray]:
    """The vectors [N, D] of TEXTS that sentence-transformers makes with each pooling, out of the same batches, which have padding."""
    batches = [model[0](model.preprocess(TEXTS[start : start + 3])) for start in range(0, len(TEXTS), 3)]
    heads = [torch.nn.Sequential(pooling, modules.Normalize()) for pooling in poolings]
    return [np.concatenate([head(dict(batch))["sentence_embedding"].numpy() for batch in batches]) for head in heads]


def count_equal_poolings(folder: str, encoder: Encoder, model: Any) -> int:
    """How many poolings give sentence-transformers' vectors, each read from the folder that it wrote; fails where one does not."""
    poolings = [modules.Pooling(WIDTH, pooling_mode=mode) for mode in POOLINGS]
    for pooling, expected in zip(poolings, encode_with_each(model, poolings), strict=True):
        pooling.save(f"{folder}/1_Pooling")
        parts = [encoder.transformer, read_pooling(Path(folder, "1_Pooling")), *encoder.head]
        assert_same_direction(Encoder(parts, encoder.tokenizer, encoder.settings).encode_query(TEXTS), expected)
    return len(poolings)


def judge_side(folder: str, side: str, trust: bool) -> tuple[str, int]:
    """What is made of a folder whose tokenizer pads on `side`: words for it, and how many poolings are equal."""
    try:
        encoder = load_encoder(folder, trust_remote_code=trust)
    except BadInput as error:
        assert "padding_side: left: this model counts positions from the padding on: set right" in str(error)
        return f"{side} is refused", 0
    assert encoder.tokenizer.padding_side == side
    model = theirs.SentenceTransformer(folder, device="cpu", trust_remote_code=trust)
    assert_same_direction(encoder.encode_query(TEXTS), model.encode(TEXTS, batch_size=3))
    return side, count_equal_poolings(folder, encoder, model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_sentence_transformers(family, tmp_path):
    folders = {side: write_teacher(tmp_path / side, family, padding_side=side) for side in ("right", "left")}
    sides = [judge_side(folder, side, family == OWN_CODE) for side, folder in folders.items()]
    assert [words for words, _ in sides] == ["right", "left is refused" if family in COUNTS_FROM_PADDING else "left"]
    assert sides[0][1] == len(POOLINGS) and sides[1][1] in (0, len(POOLINGS))
    if family == OWN_CODE:
        with pytest.raises(BadInput, match="auto_map names code"):
            load_encoder(folders["right"])
    named = read_json(Path(folders["right"], "tokenizer_config.json"), "tokenizer")["tokenizer_class"]
    padding = ", ".join(words for words, _ in sides)
    check_cells(family, tokenizer=f"`{named}`", padding=padding)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_cut_from_it_is_written_and_read_again(family, tmp_path):
    """Two of three layers: the folder gives the same vectors, here and in sentence-transformers."""
    folder = write_teacher(tmp_path, family, "lasttoken")
    if family in NO_CUT:
        with pytest.raises(BadInput, match=NO_CUT[family]) as error:
            cut_student(folder, trust=family == OWN_CODE)
        assert "\n" not in str(error.value) and "StudentFromBackbone" in str(error.value)
        check_cells(family, a_student_of_its_layers=f"no: {NO_CUT[family].removeprefix('albert: ')}")
        return
    student = cut_student(folder)
    vectors = student.encode_query(TEXTS)
    student.save_pretrained(tmp_path / "student")
    again = load_encoder(str(tmp_path / "student"))
    assert again.backbone.config.num_hidden_layers == 2 and again.fingerprint() == student.fingerprint()
    np.testing.assert_array_equal(again.encode_query(TEXTS), vectors)
    assert_same_direction(vectors, theirs.SentenceTransformer(str(tmp_path / "student"), device="cpu").encode(TEXTS, batch_size=3))
    assert not np.allclose(vectors, load_encoder(folder).encode_query(TEXTS), atol=1e-3)
    check_cells(family, a_student_of_its_layers="yes")


@pytest.mark.filterwarnings("ignore")
def test_the_end_of_a_text_stands_in_for_a_missing_padding_token(tmp_path):
    """As in Llama's folders, whose texts sentence-transformers reads only where it is told what to pad with."""
    folder = write_teacher(tmp_path, "Llama", "lasttoken")
    rewrite_json(Path(folder, "tokenizer_config.json"), pad_token=None)
    model, encoder = theirs.SentenceTransformer(folder, device="cpu"), load_encoder(folder)
    with pytest.raises(ValueError, match="does not have a padding token"):
        model.encode(TEXTS)
    model.tokenizer.pad_token = model.tokenizer.eos_token
    assert_same_direction(encoder.encode_query(TEXTS), model.encode(TEXTS, batch_size=3))
    assert encoder.tokenizer.pad_token == "<|end_of_text|>"


def test_the_page_has_a_row_for_each_family():
    text = PAGE.read_text(encoding="utf-8")
    rows = read_rows(text)
    assert list(rows) == list(FAMILIES) and "?" not in {cell for row in rows.values() for cell in row.values()}
    assert write_rows(text, rows) == text
    shorter = write_rows(text, {"BERT": dict.fromkeys(COLUMNS, "a")})
    assert list(read_rows(shorter)) == ["a"] and write_rows(shorter, rows) == text
