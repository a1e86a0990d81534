"""A loss from outside the package with a layer of its own: it trains, is saved, goes on, and is the same on any number of ranks."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import own_loss
import pytest
import torch
from commands import distill, furthest, on_ranks, train_arguments, weights
from test_resume import assert_same, lines, stopped

from distill.data.datamodule import RetrievalData
from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromTeacher
from distill.losses import QueryMatching
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.texts.sources import MsMarcoTsv

TESTS = Path(__file__).parents[1]
READOUT = {"class_path": "own_loss.Readout", "init_args": {"width": 32}}
LOSSES = json.dumps({"matching": {"class_path": "QueryMatching"}, "readout": READOUT})
OWN = ["losses.readout.layer.weight", "losses.readout.layer.bias"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, source_root: Path, store_folder: Path) -> Path:
    """Two epochs of 6 steps."""
    folder = tmp_path_factory.mktemp("own") / "run"
    assert distill(*train_arguments(source_root, store_folder, folder, losses=LOSSES)) == 0
    return folder


def student_of(source: Path, store: Path, width: int = 32, **settings: str) -> StudentModule:
    data = RetrievalData(MsMarcoTsv(str(source)), str(store))
    data.setup("fit")
    torch.manual_seed(0)
    losses = {"matching": QueryMatching(), "readout": own_loss.Readout(width)}
    module = StudentModule(StudentFromTeacher([0, 3]), losses, **settings)
    module.prepare(data)
    return module


def test_its_layer_learns_and_is_in_the_checkpoint(run: Path) -> None:
    last, best = (weights(run / "checkpoints" / f"{name}.ckpt") for name in ("last", "best"))
    assert [name for name in last if name.startswith("losses.")] == OWN == [name for name in best if name.startswith("losses.")]
    assert all(last[name].abs().max() > 32**-0.5 for name in OWN)  # within which a new layer's weights lie
    values = [line["train/readout"] for line in lines(run) if "train/readout" in line]
    assert len(values) == 12 and values[-1] < 0.9 * values[0]


def test_the_optimizer_has_its_layer_after_the_student(run: Path, source_root: Path, store_folder: Path) -> None:
    """So the state of a run whose losses own nothing is what it was before losses could."""
    module = student_of(source_root, store_folder)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    matrices, others = (group["params"] for group in checkpoint["optimizer_states"][0]["param_groups"])
    assert len(matrices) + len(others) == len(list(module.encoder.parameters())) + 2
    moments = checkpoint["optimizer_states"][0]["state"]
    assert moments[matrices[-1]]["exp_avg"].shape == (32, 32) and moments[others[-1]]["exp_avg"].shape == (32,)
    assert all(moments[number]["exp_avg"].any() for number in (matrices[-1], others[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(("hook", "name"), [("on_train_epoch_start", "SIGKILL"), ("on_train_batch_end", "SIGTERM")])
def test_stopped_after_an_epoch_it_ends_with_the_same_weights(
    run: Path, source_root: Path, store_folder: Path, tmp_path: Path, hook: str, name: str
) -> None:
    again = tmp_path / "run"
    arguments = train_arguments(source_root, store_folder, again, losses=LOSSES)
    step = 6 if name == "SIGKILL" else 8  # between the epochs, and within the second
    assert abs(stopped(arguments, hook, step, name).returncode) in (signal.SIGKILL, 128 + signal.SIGTERM)
    halfway = weights(again / "checkpoints" / "last.ckpt")
    assert distill(*arguments) == 0
    assert_same(again, run)
    assert all(not halfway[own].equal(weights(again / "checkpoints" / "last.ckpt")[own]) for own in OWN)  # the second epoch moves it


@pytest.mark.slow
def test_two_ranks_equal_one(run: Path, source_root: Path, store_folder: Path, tmp_path: Path) -> None:
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8]
    arguments = train_arguments(source_root, store_folder, tmp_path / "two", *ranks, losses=LOSSES)
    result = on_ranks(*arguments)
    assert result.returncode == 0, result.stderr
    # a softmax does not see its keys' bias: the gradient is rounding noise, which Adam scales up
    last = [folder / "checkpoints" / "last.ckpt" for folder in (run, tmp_path / "two")]
    assert furthest(*last, without="key.bias") < 5e-5
    assert all(weights(last[0])[own].sub(weights(last[1])[own]).abs().max() < 1e-5 for own in OWN)


def test_the_student_is_exported_without_it(run: Path) -> None:
    assert distill("evaluate", run) == 0 == distill("export", run)
    student = load_encoder(str(run / "student"))
    best = weights(run / "checkpoints" / "best.ckpt")
    assert student.parameter_count() == sum(tensor.numel() for name, tensor in best.items() if not name.startswith("losses."))


def test_another_run_begins_with_a_new_layer(run: Path, source_root: Path, store_folder: Path) -> None:
    module, new = (student_of(source_root, store_folder, **more) for more in ({"start_from": str(run / "checkpoints" / "best.ckpt")}, {}))
    begun, trained = module.state_dict(), weights(run / "checkpoints" / "best.ckpt")
    for name, tensor in begun.items():
        assert tensor.equal(new.state_dict()[name] if name in OWN else trained[name]), name
    assert not begun[OWN[0]].equal(trained[OWN[0]])


def test_its_own_check_names_it(source_root: Path, store_folder: Path) -> None:
    class NeedsManyCandidates(own_loss.Readout):
        def check(self, inputs: own_loss.LossInputs) -> None:
            raise BadInput(f"reads 9 candidates, not {inputs.candidates}")

    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder))
    data.setup("fit")
    with pytest.raises(BadInput, match=r"^model\.losses\.many: reads 9 candidates, not 0$"):
        StudentModule(StudentFromTeacher([0, 3]), {"many": NeedsManyCandidates(32)}).prepare(data)


@pytest.mark.parametrize("name", ["a.b", "keys", ""])
def test_a_name_that_no_module_can_have_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=rf"^model\.losses\.{name}: PyTorch cannot give this name"):
        StudentModule(StudentFromTeacher([0, 3]), {name: own_loss.Readout(32)})


def test_a_layer_of_another_width_ends_in_one_line(source_root: Path, store_folder: Path, tmp_path: Path, capfd) -> None:
    losses = json.dumps({"readout": {"class_path": "own_loss.Readout", "init_args": {"width": 16}}})
    capfd.readouterr()
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", losses=losses)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("distill train: model.losses.readout: does not fit the vectors (mat1 and mat2 shapes cannot be multiplied")
    assert line.endswith("the student's query vectors are [16, 32], the teacher's [16, 32]: mend its width")
