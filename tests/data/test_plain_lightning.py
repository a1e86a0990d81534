"""The student's module and data in a plain Lightning trainer: no run folder, no command line, sanity check on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger

from distill.callbacks.retrieval_eval import RetrievalEval
from distill.data.datamodule import RetrievalData
from distill.encoders.students import StudentFromTeacher
from distill.losses import QueryMatching
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv


def test_a_student_trains(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), batch_size=16)
    student = StudentModule(StudentFromTeacher([0, 3]), {"matching": QueryMatching()}, learning_rate=0.005)
    here = {"default_root_dir": tmp_path, "logger": CSVLogger(tmp_path), "log_every_n_steps": 1}
    trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=[RetrievalEval()], **here)
    trainer.fit(student, data)

    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert {"dev/ndcg@10", "dev/overlap@10", "dev/cosine", "train/loss", "train/matching"} <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values()) and metrics["dev/cosine"] > 0.5
    assert trainer.global_step == 6 and trainer.checkpoint_callback is not None
    student.save(tmp_path / "student")
    assert (tmp_path / "student" / "modules.json").exists()


def test_the_same_module_goes_on_with_other_data(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    """Data is connected to the module that it is given to, also where that has met other data before."""
    student = StudentModule(StudentFromTeacher([0, 3]), {"matching": QueryMatching()})
    for batch_size in (16, 32):
        data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), batch_size=batch_size)
        trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
        trainer.fit(student, data)
        assert trainer.global_step == 96 // batch_size and student.teachers["store"] is data.teacher


def test_data_that_was_not_connected_says_so(source_root: Path, store_folder: Path) -> None:
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder))
    data.setup("fit")
    with pytest.raises(BadInput, match=r"no encoder to cut its texts for: call connect\(encoder\)"):
        data.train_dataloader()


def test_a_student_without_data_says_so(tmp_path: Path) -> None:
    student = StudentModule(StudentFromTeacher([0, 3]), {"matching": QueryMatching()})
    with pytest.raises(BadInput, match=r"learns from RetrievalData: call Trainer\.fit"):
        Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path).fit(student, [])
