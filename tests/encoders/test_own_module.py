"""A module of an encoder from outside the package: it trains, resumes, is saved, loads again and is exported like those inside."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from distill.data.datamodule import RetrievalData
from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.modules import EncoderModule
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.losses import QueryMatching
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv

TEXTS = ["what is the old river", "garden", "how to find a near red market"]


class Gate(EncoderModule):
    """Scales each dimension by a trained factor."""

    def __init__(self, width: int, start: float = 1.0):
        super().__init__()
        self.factors = nn.Parameter(torch.full((width,), start))
        self.temperature = nn.Parameter(torch.tensor(1.0))  # a single number, which has no dimensions

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors * self.factors / self.temperature


@dataclass
class GatedStudent(StudentFromTeacher):
    """A cut of the teacher with a gate behind it."""

    def build(self, teacher: TeacherSpace) -> Encoder:
        encoder = super().build(teacher)
        return Encoder([*encoder.module_list, Gate(encoder.width, start=0.5)], encoder.tokenizer, encoder.settings)


def train(folder: Path, source: Path, store: Path, resume: Path | None = None) -> Encoder:
    """Two epochs with a checkpoint after each, from the beginning or from a checkpoint."""
    module = StudentModule(GatedStudent([0, 3]), {"match": QueryMatching()})
    data = RetrievalData(MsMarcoTsv(str(source)), str(store), batch_size=16)
    checkpoints = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=2, callbacks=[checkpoints], limit_val_batches=0, **settings)
    trainer.fit(module, data, ckpt_path=None if resume is None else str(resume))
    return module.encoder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def student(checkpoints: Path, source_root: Path, store_folder: Path) -> Encoder:
    return train(checkpoints, source_root, store_folder)


def test_it_is_trained(student):
    gate = student.head[-1]
    assert isinstance(gate, Gate)
    assert (gate.factors - 0.5).abs().min() > 1e-4
    assert gate.temperature != 1


def test_a_resumed_training_equals_an_uninterrupted_one(student, checkpoints, source_root, store_folder, tmp_path):
    resumed = train(tmp_path, source_root, store_folder, resume=checkpoints / "epoch=0.ckpt")
    assert resumed.fingerprint() == student.fingerprint()
    state = torch.load(checkpoints / "epoch=1.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(state["encoder.head.1.factors"], student.head[-1].factors)


def test_its_folder_loads_where_the_class_is_imported(student, tmp_path, monkeypatch):
    student.save_pretrained(tmp_path / "student")
    types = [entry["type"] for entry in json.loads((tmp_path / "student" / "modules.json").read_text())]
    assert types[:3] == [f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")]
    assert types[3] == f"{__name__}.Gate"
    assert json.loads((tmp_path / "student" / "3_Gate" / "config.json").read_text()) == {"width": 32, "start": 0.5}
    loaded = load_encoder(str(tmp_path / "student"))
    np.testing.assert_allclose(loaded.encode_query(TEXTS), student.encode_query(TEXTS), atol=1e-6)
    assert loaded.fingerprint() == student.fingerprint()
    monkeypatch.delitem(EncoderModule.classes, types[3])
    with pytest.raises(BadInput, match="Gate is not known here: import the package that defines it first"):
        load_encoder(str(tmp_path / "student"))


def test_its_weights_count_in_the_fingerprint(student):
    other = copy.deepcopy(student)
    assert other.fingerprint() == student.fingerprint()
    with torch.no_grad():
        other.head[-1].temperature.add_(1)
    assert other.fingerprint() != student.fingerprint()


def test_it_is_in_the_onnx_graph(student, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from distill.encoders.onnx_encoder import MODEL, OnnxEncoder
    from distill.export.onnx_graph import write_graph

    student.save_pretrained(tmp_path / "student")
    (tmp_path / "student" / MODEL).parent.mkdir()
    write_graph(student, tmp_path / "student" / MODEL)
    served = OnnxEncoder(tmp_path / "student").encode(TEXTS)
    np.testing.assert_allclose(served, student.encode_query(TEXTS), atol=1e-5)


def test_broken_weights_are_named(student, tmp_path):
    student.save_pretrained(tmp_path / "student")
    (tmp_path / "student" / "3_Gate" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"3_Gate: the weights of this Gate module are missing or broken"):
        load_encoder(str(tmp_path / "student"))
