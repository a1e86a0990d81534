"""A job that is killed at any place goes on to the same result; the command line says what it leaves."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path

import pytest
from commands import distill as run_verb
from forks import run_python, start_python
from shrink_world import make_texts

import distill
from distill.shrinking.request import Request
from distill.texts.python_docs import PythonDocs


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("given")
    (folder / "q.txt").write_text("\n".join(make_texts(120, 9, seed=1)))
    rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(make_texts(8, 25, seed=2))]
    (folder / "docs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / "q.txt", folder / "docs.jsonl"


def arguments(teacher: Path, texts: tuple[Path, Path], out: Path) -> list[str]:
    # so many minutes that the most epochs fit into them, however slow the machine is just now
    given = ["--teacher", teacher, "--queries", texts[0], "--documents", texts[1], "--minutes", 60, "--out", out]
    return ["shrink", *map(str, given)]


def measured(run: distill.Run) -> dict[str, object]:
    values = run.results.values
    figures = {system: {name: value for name, value in row.items() if "latency" not in name} for system, row in values["systems"].items()}
    return {"systems": figures, "retention": values["retention"], "agreement": values["agreement"]}


@pytest.mark.slow
def test_killed_at_three_places_it_ends_as_if_it_had_not_been(tmp_path, teacher_folder, texts):
    start = time.monotonic()
    uninterrupted = run_python(["-m", "distill", *arguments(teacher_folder, texts, tmp_path / "whole")])
    seconds, said = time.monotonic() - start, uninterrupted.stdout
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    assert "holdout" in said and "report:" in said and "load_encoder(" in said
    kills, seed = 0, random.randrange(1 << 30)
    print(f"seed {seed}")
    wait = random.Random(seed)
    while kills < 3:
        job = start_python(["-m", "distill", *arguments(teacher_folder, texts, tmp_path / "killed")], tmp_path / "log")
        job.join(wait.uniform(0.3, 1.0) * (kills + 1) * seconds / 3)
        if job.exitcode is not None:
            break  # it was done before
        job.kill()
        job.join()
        kills += 1
    assert run_python(["-m", "distill", *arguments(teacher_folder, texts, tmp_path / "killed")]).returncode == 0
    whole, killed = distill.Run(tmp_path / "whole"), distill.Run(tmp_path / "killed")
    assert kills >= 1
    assert distill.load_encoder(str(killed.folder.student)).fingerprint() == distill.load_encoder(str(whole.folder.student)).fingerprint()
    assert measured(killed) == measured(whole)


def test_bad_input_ends_with_2_and_one_line(tmp_path, teacher_folder, capsys):
    assert run_verb("shrink", "--teacher", teacher_folder, "--queries", tmp_path / "none.txt", "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert error.startswith("distill shrink: ") and "none.txt" in error and error.count("\n") == 1


def test_a_source_that_writes_its_own_folder_is_the_same_to_the_call_that_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    packages = [str(Path(asyncio.__file__).parent), str(Path(json.__file__).parent)]

    def describe() -> dict[str, object]:
        source = PythonDocs(str(tmp_path / "docs"), packages=packages)
        return Request("teacher", source=source, out=tmp_path / "out").describe()

    assert not (tmp_path / "docs").exists()
    first = describe()
    assert describe() == first and first["texts of the source"] != str(tmp_path / "docs")
