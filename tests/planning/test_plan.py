"""A plan from one end to the other: what is measured here, what a GPU's rates give, and what is refused."""

from __future__ import annotations

import json

import pytest
from commands import distill as run

import distill
from distill.planning.steps import Step
from distill.planning.table import format_table


@pytest.fixture(autouse=True)
def little_to_measure(monkeypatch, tmp_path):
    monkeypatch.setattr("distill.planning.measuring.MOST_ROWS", 500)
    monkeypatch.setattr("distill.planning.measuring.STEPS", 4)
    monkeypatch.setattr("distill.planning.measuring.ENOUGH", 0.01)
    monkeypatch.setattr("distill.planning.amounts.MOST_READ", 200)
    monkeypatch.chdir(tmp_path)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def test_a_job_on_this_machine(teacher_folder, source_root, store_folder, tmp_path):
    plan = distill.plan(str(teacher_folder), str(source_root), epochs=2, candidates=3)
    names = ["encode documents", "encode queries", "find candidates", "train", "dev", "evaluate", "export"]
    assert [step.name for step in plan.steps] == names
    assert all(step.seconds > 0 for step in plan.steps) and plan.seconds == sum(step.seconds for step in plan.steps)
    assert plan["encode documents"].disk == size_of(store_folder / "documents")
    assert plan["encode queries"].disk == sum(size_of(store_folder / f"queries-{split}") for split in ("train", "dev", "test"))
    assert plan["train"].about == "2 epochs of 6 steps, 16 queries a step" and plan.epochs == 2
    assert plan.gpu_memory is None and plan.memory > 10**8
    assert list(tmp_path.iterdir()) == []  # what was written to measure is gone


def test_gpus_that_are_not_here(teacher_folder, tmp_path, capsys):
    arguments = ["plan", "--teacher", teacher_folder, "--documents", "1k", "--queries", "1k", "--gpus", 8, "--epochs", 2]
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert "? is not known" in shown and "times are not measured yet: run experiments/speed/gpu.py" in shown
    rates = {"device": "H200", "gpu_memory": 1e6, "encode": 1e6, "train": 1e6, "step": 0.01, "search": 1e6, "copy": 1e6}
    (tmp_path / "gpu.json").write_text(json.dumps({"rates": rates}))
    assert run(*arguments, "--rates", "gpu.json", "--out", "plan.json") == 0
    shown = capsys.readouterr().out
    assert "for 8 x H200" in shown and "of a GPU that has 1.0 MB" in shown and "the length of documents and queries is assumed" in shown
    plan = json.loads((tmp_path / "plan.json").read_text())
    times, steps = plan["times"], {step["name"]: step for step in plan["steps"]}
    assert steps["encode documents"]["seconds"] == pytest.approx(1000 / 8 * max(times["document"], times["document_tokens"]))
    assert steps["train"]["seconds"] == pytest.approx(2 * 1 * times["step"])  # 850 queries, 8 x 64 in a step
    assert plan["seconds"] == pytest.approx(sum(step["seconds"] for step in plan["steps"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": 0}, "gpus: 0: must be 1 or more"),
        ({"queries": None}, "queries: none are given: say how many"),
        ({"documents": "many"}, "documents: 'many': neither a number"),
        ({"documents": -5}, "documents: -5: must be 1 or more"),
        ({"epochs": 0}, "epochs: 0: must be 1 or more"),
        ({"candidates": -1}, "candidates: -1: must be 0 or more"),
        ({"epochs": 2, "minutes": 5.0}, "minutes: the length of the training is that of --epochs"),
        ({"minutes": 0.0}, "minutes: 0.0: minutes of training, above 0"),
        ({"out": "."}, "out: .: a folder is there: name a file"),
        ({"documents": "articles.csv:body", "out": "articles.csv"}, "out: articles.csv: is read here, and would be lost"),
        ({"size": "auto"}, "size: 'auto': the number of layers to keep"),
        ({"size": 9}, "size: 9: "),
        ({"rates": "nowhere.json"}, "nowhere.json: no file of measured rates here"),
        ({"teacher": len}, "teacher: len: not a model that runs here"),
    ],
)
def test_refusals(teacher_folder, options, message):
    given = {"teacher": str(teacher_folder), "documents": 1000, "queries": 500, **options}
    with pytest.raises(distill.BadInput) as refused:
        distill.plan(**given)
    assert str(refused.value).startswith(message)


def test_table():
    steps = [Step("train", 100.0, 2_000_000, 1_500_000_000, 3_000_000_000, "2 epochs"), Step("export", None, 0, 10, None, "")]
    assert format_table(steps, steps[0], has_gpus=True)[1:] == [
        "train   100 s  2.0 MB  1.5 GB  3.0 GB  2 epochs",
        "export      ?       0    10 B",
        "train   100 s  2.0 MB  1.5 GB  3.0 GB  2 epochs",
    ]
    assert format_table(steps, steps[0], has_gpus=False)[1] == "train   100 s  2.0 MB  1.5 GB  2 epochs"
