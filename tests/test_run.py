"""A training from Python leaves what the command line leaves, and either goes on with the other's run."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import distill as command
from commands import furthest, train_arguments
from pytorch_lightning import Callback

import distill
from distill.files.configs import from_config
from distill.records import BadInput

OPTIONS = {"max_epochs": 2, "precision": "32-true", "log_every_n_steps": 1, "accelerator": "cpu"}


def make_parts(source_root: Path, store_folder: Path) -> tuple[distill.StudentModule, distill.RetrievalData]:
    """The training of `commands.train_arguments`."""
    module = distill.StudentModule(distill.StudentFromTeacher([0, 3]), {"query_matching": distill.QueryMatching()}, learning_rate=0.005)
    return module, distill.RetrievalData(distill.MsMarcoTsv(str(source_root)), str(store_folder), batch_size=16)


@pytest.fixture(scope="module")
def run(source_root: Path, store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> distill.Run:
    return distill.train(*make_parts(source_root, store_folder), out=tmp_path_factory.mktemp("python") / "run", **OPTIONS)


def test_weights_are_those_of_the_command_line(run, run_folder):
    assert furthest(run.path / "checkpoints" / "last.ckpt", run_folder / "checkpoints" / "last.ckpt") == 0
    assert run.student.fingerprint() == distill.load_encoder(str(run_folder / "student")).fingerprint()


def test_other_verbs_go_on_with_it(run, capsys):
    assert command("evaluate", run.path) == 0
    assert command("search", run.path, "what is the old river", "--k", 2) == 0
    assert "2. " in capsys.readouterr().out
    assert command("report", run.path) == 0
    assert run.results.verdict.startswith("keeps ")
    assert run.verdict == run.results.verdict


def test_the_config_makes_the_same_objects_again(run):
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    data = from_config(config["data"])
    assert isinstance(data["source"], distill.MsMarcoTsv) and data["batch_size"] == 16
    model = from_config(config["model"])
    assert model["student"].layers == [0, 3]
    assert isinstance(model["losses"]["query_matching"], distill.QueryMatching)


def test_called_again_it_is_done(run, source_root, store_folder, caplog):
    caplog.set_level(logging.INFO, "distill")
    logging.getLogger("distill").propagate = True
    again = distill.train(*make_parts(source_root, store_folder), out=run.path, **OPTIONS)
    assert any("done before" in message for message in caplog.messages)
    assert again.student.fingerprint() == run.student.fingerprint()
    module, data = make_parts(source_root, store_folder)
    with pytest.raises(BadInput, match=r"made from other inputs: trainer\.max_epochs was 2, now 3"):
        distill.train(module, data, out=run.path, **{**OPTIONS, "max_epochs": 3})


def test_an_interrupted_run_of_the_command_line_goes_on_in_python(run_folder, source_root, store_folder, tmp_path):
    command(*train_arguments(source_root, store_folder, tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "student")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"]["batch_size"] == 16
    finished = distill.train(*make_parts(source_root, store_folder), out=tmp_path / "run", **OPTIONS)
    assert finished.student.fingerprint() == distill.load_encoder(str(run_folder / "student")).fingerprint()


def test_what_a_run_gives(run, capsys):
    assert repr(run) == f"Run({str(run.path)!r}, finished)"
    assert run.student.encode_query("what is the river").shape == (32,)
    assert run.student.encode_query(["what is the river", "bread"]).shape == (2, 32)
    assert {"train/loss", "dev/overlap@10"} <= set(run.history)
    logged = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert run.history["train/loss"].values == [line["train/loss"] for line in logged if "train/loss" in line]
    hits = run.search("what is the old river", k=3)
    vectors = distill.VectorStore(Path(run.folder.settings()["data"]["store"]) / "documents")
    query = run.student.encode_query("what is the old river")
    row = int(vectors.ids.rows([hits[0].id])[0])
    assert hits[0].score == pytest.approx(float(query @ vectors.take(np.array([row]))[0].astype(np.float32)), abs=1e-4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert capsys.readouterr().out == ""  # the library does not print


def test_a_folder_that_is_no_run_is_refused(tmp_path, run):
    with pytest.raises(BadInput, match="no run folder"):
        distill.Run(tmp_path)
    shutil.copytree(run.path, tmp_path / "copy", ignore=shutil.ignore_patterns("results.json"))
    with pytest.raises(BadInput, match=r"not evaluated yet: call evaluate\(\)"):
        distill.Run(tmp_path / "copy").results  # noqa: B018


def test_a_module_trains_one_run(run, source_root, store_folder, tmp_path):
    module, data = make_parts(source_root, store_folder)
    distill.train(module, data, out=tmp_path / "one", **{**OPTIONS, "max_epochs": 1})
    with pytest.raises(BadInput, match="this module was trained before: make a new StudentModule"):
        distill.train(module, data, out=tmp_path / "two", **{**OPTIONS, "max_epochs": 1})
    assert not (tmp_path / "two").exists()


def test_the_folder_is_free_again_after_an_interrupted_call(source_root, store_folder, tmp_path, run):
    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                raise KeyboardInterrupt

    module, data = make_parts(source_root, store_folder)
    with pytest.raises(BaseException) as interrupted:
        distill.train(module, data, out=tmp_path / "run", callbacks=[Interrupt()], **OPTIONS)
    assert isinstance(interrupted.value, KeyboardInterrupt | SystemExit)
    again = distill.train(*make_parts(source_root, store_folder), out=tmp_path / "run", **OPTIONS)
    assert again.student.fingerprint() == run.student.fingerprint()


def test_the_numbers_that_nobody_gave_are_those_of_the_run(source_root, store_folder, tmp_path):
    """They are in its configuration, and another default, as of a run that a GPU began, stays when it goes on here."""

    def parts() -> tuple[distill.StudentModule, distill.RetrievalData]:
        made = distill.RetrievalData(distill.MsMarcoTsv(str(source_root)), str(store_folder))
        return distill.StudentModule(distill.StudentFromTeacher([0, 3])), made

    run = distill.train(*parts(), out=tmp_path / "run", **OPTIONS)
    config = run.folder.settings()
    assert (config["data"]["batch_size"], config["model"]["learning_rate"]) == (64, 0.001)
    for path in (run.folder.config, run.folder.run_record):
        path.write_text(path.read_text().replace("batch_size: 64", "batch_size: 48").replace('"batch_size": 64', '"batch_size": 48'))
    _, data = again = parts()
    distill.train(*again, out=tmp_path / "run", **OPTIONS)
    assert data.batch_size == 48


def test_what_was_changed_after_it_was_made_is_refused(source_root, store_folder, tmp_path):
    module, data = make_parts(source_root, store_folder)
    data.batch_size = 48
    with pytest.raises(BadInput, match="batch_size was 16 when it was made and is 48 now: give the value when you make it"):
        distill.train(module, data, out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_an_unknown_trainer_option_is_refused_in_one_line(source_root, store_folder, tmp_path):
    with pytest.raises(BadInput, match=r"trainer: .*'max_epoch'"):
        distill.train(*make_parts(source_root, store_folder), out=tmp_path / "run", max_epoch=2)
