"""The front of the program: answers at once, lists every verb, and says what a verb takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from commands import distill

from distill.cli.main import SHARED_VERBS, VERBS

OPTIONS = {
    "encode": ["--teacher", "--source", "--out", "--splits", "--queries", "--precision", "--pooling", "--normalize"]
    + ["--model", "--requests_per_minute", "--price", "--budget"],
    "train": ["--model.student", "--model.losses", "--model.learning_rate", "--data.store", "--data.candidates", "--trainer.max_epochs"]
    + ["--out", "--ckpt_path", "--checkpoint_every_n_steps", "--seed_everything", "--tracking"],
    "evaluate": ["run", "--split", "--source", "--store", "--baselines", "--out"],
    "import": ["--vectors", "--ids", "--name", "--queries", "--out"],
    "mine": ["--store", "--source", "--out", "--split", "--negatives", "--first_rank", "--last_rank", "--margin"],
    "teach": ["--model", "--data.source", "--data.negatives", "--data.first_stage", "--trainer.max_epochs", "--out", "--ckpt_path"],
    "rerank": ["--teacher", "--source", "--first_stage", "--split", "--top", "--out", "--precision"],
    "search": ["run", "query", "--k"],
    "export": ["run", "--out"],
    "sweep": ["file", "--out", "--trials"],
    "drift": ["run", "--queries", "--out", "--level", "--trust"],
    "report": ["runs", "--out", "--hour_price"],
}


def test_help_answers_at_once_and_lists_every_verb() -> None:
    seconds = []
    for _ in range(3):  # a busy machine may be slow once
        start = time.monotonic()
        found = subprocess.run([sys.executable, "-m", "distill", "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - start)
    assert min(seconds) < 1.5
    listed = [line.split()[0] for line in found.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(VERBS)
    assert all(text in found.stdout for text in VERBS.values())


def test_help_of_training_names_what_is_ours_before_the_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        distill("train", "--help")
    text = capsys.readouterr().out
    assert text.startswith("usage: distill train [--config FILE ...] --out FOLDER [--OPTION VALUE ...]\n")
    places = [text.index(f"\n  --{option} ") for option in ("out", "model.losses", "data.store", "trainer.max_epochs")]
    assert places == sorted(places)


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_overview(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert distill(*arguments) == 0
    assert "usage: distill VERB" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_lists_its_options_with_a_text_each(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        distill(verb, "--help")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"usage: distill {verb}" in text
    for option in OPTIONS.get(verb, ["--out"]):
        assert f" {option} " in text, option
    if verb in ("encode", "train", "teach", "rerank"):
        assert "MsMarcoTsv" in text  # the sources to choose from


def test_unknown_verb_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert distill("distil") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"distill: no verb 'distil': there are {', '.join(VERBS)}\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert distill("--version") == 0
    assert capsys.readouterr().out == version("distill") + "\n"


# argparse passes over a pipe that is closed while it writes a long help
@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 141), (["train", "--help"], 0), (["search", "RUN", "old river"], 141)])
def test_a_closed_pipe_ends_it_quietly(arguments: list[str], code: int, run_folder: Path) -> None:
    words = [str(run_folder) if word == "RUN" else word for word in arguments]
    program = subprocess.Popen([sys.executable, "-m", "distill", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()  # as `head` does when it has seen enough
    assert (program.wait(timeout=300), program.stderr.read()) == (code, "")


@pytest.mark.parametrize(
    ("output", "code", "message"), [("&-", 0, ""), ("/dev/full", 2, "distill cannot print: No space left on device\n")]
)
def test_nowhere_to_print(output: str, code: int, message: str) -> None:
    found = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m distill --version >{output}"],
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert (found.returncode, found.stderr) == (code, message)


def test_module_and_command_are_the_same_program() -> None:
    found = subprocess.run([sys.executable, "-m", "distill", "nothing"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("distill: no verb 'nothing'")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in SHARED_VERBS])
def test_a_verb_of_one_process_is_refused_by_all_ranks_in_the_words_of_one(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert distill(verb, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"distill {verb}: 2 ranks were started, and this verb is for one process: start it without torchrun or srun, "
        "or without RANK and WORLD_SIZE, which some clusters set\n"
    )
    assert not (tmp_path / "out").exists()
