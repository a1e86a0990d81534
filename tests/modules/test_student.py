"""What a training step hands to the losses and to callbacks, and what a checkpoint keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import distill, train_arguments

from distill import losses
from distill.data.datamodule import RetrievalData
from distill.encoders.students import StudentFromTeacher
from distill.files.configs import to_config
from distill.modules.student import StudentModule
from distill.records import Batch
from distill.teachers.ensemble import EnsembleSettings
from distill.texts.sources import MsMarcoTsv


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_losses_see_exact_scores(precision: str, source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    exact = '{"exact": {"class_path": "exact_scores.WantsExactScores"}}'
    options = ["--trainer.precision", precision, "--trainer.max_epochs", 1, "--data.candidates", 3]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *options, losses=exact)) == 0


def test_every_loss_that_needs_no_document_tower_trains(source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    names = sorted(set(losses.__all__) - {"Loss", "LossInputs", "DocumentMatching"})
    given = json.dumps({name.lower(): {"class_path": name} for name in names})
    options = ["--data.candidates", 3, "--trainer.max_epochs", 3]
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *options, losses=given)) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name in names:
        values = [line[f"train/{name.lower()}"] for line in log if f"train/{name.lower()}" in line]
        assert len(values) == 18
        # labels are the one thing that the teacher's vectors do not promise
        assert name == "OneHot" or sum(values[-6:]) < sum(values[:6]), name


def test_weights_of_an_ensemble_in_an_older_checkpoint_have_other_names(source_root: Path, store_folder: Path) -> None:
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), candidates=2, teachers={"again": str(store_folder)})
    data.setup("fit")
    ensemble = EnsembleSettings({"store": 0.05, "again": 1.0}, "learned")
    module = StudentModule(StudentFromTeacher([0, 3]), {"s": losses.ScoreDistillation(teacher="ensemble")}, ensemble=ensemble)
    module.prepare(data)
    old = {name: tensor + 1 for name, tensor in module.state_dict().items()}
    old["mixture.constant"], old["mixture.of_margin"] = old.pop("ensemble.constant"), old.pop("ensemble.margin_factor") + 1
    module.load_state_dict(old)
    assert module.ensemble is not None
    assert module.ensemble.constant.tolist() == [1, 1] and module.ensemble.margin_factor.tolist() == [2, 2]
    assert "mixture.constant" in old  # what was given is not changed


def test_a_step_is_there_for_callbacks_until_its_backward_pass(source_root: Path, store_folder: Path) -> None:
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), candidates=2)
    data.setup("fit")
    module = StudentModule(StudentFromTeacher([0, 3]), {"q": losses.QueryMatching(), "s": losses.ScoreDistillation(weight=3.0)})
    module.prepare(data)
    module.log = module.log_dict = lambda *_, **__: None
    rows = torch.tensor([4, 2])
    tokens = module.encoder.pad(module.encoder.token_ids(data.query_texts(rows), "query"))
    loss = module.training_step(Batch(tokens, rows, torch.from_numpy(data.candidate_rows[rows])), 0)
    step = module.last_step
    assert step.student.query.shape == (2, 32) and step.teachers.keys() == {"store"} and step.losses.keys() == {"q", "s"}
    torch.testing.assert_close(loss, step.losses["q"] + 3 * step.losses["s"])
    module.on_after_backward()
    assert not hasattr(module, "last_step")


def test_a_module_without_arguments_keeps_two_layers_and_matches_queries() -> None:
    """Its configuration says so, as that of a module whose arguments were given."""
    given = StudentModule(StudentFromTeacher(2), {"query_matching": losses.QueryMatching()})
    plain = StudentModule()
    assert to_config(plain) == to_config(given)
    assert to_config(plain)["init_args"]["student"]["init_args"]["layers"] == 2
    assert plain.losses["query_matching"] is not StudentModule().losses["query_matching"]
