"""`experiments/speed/gpu.py`, the script for the day a card is at hand, runs to its end without one, and keeps what it has."""

from __future__ import annotations

import doctest
import json
import os
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from forks import run_python
from snippets import load_module

from distill.planning.rates import read_rates

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "speed" / "gpu.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return load_module(SCRIPT)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What it leaves after all of its parts."""
    out = tmp_path_factory.mktemp("script") / "gpu.json"
    ended = run_python([str(SCRIPT), "--simulate", "--out", str(out), "--minutes", "60"])
    assert ended.returncode == 0, ended.stderr
    return json.loads(out.read_text())


def test_every_part_runs_on_the_simulated_device(result: dict[str, Any], script: ModuleType) -> None:
    assert {part: end["state"] for part, end in result["parts"].items()} == dict.fromkeys([*script.PREPARE, *script.PARTS], "done")
    found = {figure["row"]: figure["value"] for figure in result["rows"] if figure["part"] == "correctness"}
    assert [name for name, words in found.items() if words.startswith("FAILED")] == []
    assert found["NCCL, one rank"] == "needs a card"
    assert {figure["part"] for figure in result["rows"]} == set(script.PARTS)


def test_a_simulation_meets_no_goal(result: dict[str, Any]) -> None:
    assert result["simulated"] and {figure["met"] for figure in result["rows"]} == {None}


def test_figures_have_a_bound_of_the_same_run(result: dict[str, Any]) -> None:
    goals = [figure for figure in result["rows"] if "least_share" in figure]
    assert {figure["part"]: figure["least_share"] for figure in goals} == {"training": 0.6, "search": 0.6, "encode": 0.5}
    for figure in goals:
        assert figure["share"] == figure["value"] / figure["bound"] > 0


def test_plan_reads_its_rates(result: dict[str, Any], script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "gpu.json").write_text(json.dumps({"rates": script.find_rates(result)}))
    rates = read_rates(tmp_path / "gpu.json")
    fastest = {part: max(row.get("operations_a_second", 0) for row in result["rows"] if row["part"] == part) for part in script.PARTS}
    assert (rates.encode, rates.train, rates.search) == (fastest["encode"], fastest["training"], fastest["search"])
    assert all(value > 0 for value in (rates.encode, rates.train, rates.search, rates.copy, rates.gpu_memory))


def sleep_after_a_figure(part: str, simulate: bool, folder: Path, report: Any) -> None:
    report.add(part, "a row", "a column", 1.0, "s")
    time.sleep(60)


def fail(*_: Any) -> None:
    raise ValueError("as a kernel would")


def die(*_: Any) -> None:
    os._exit(7)


@pytest.mark.parametrize(
    ("work", "state", "figures"),
    [
        (sleep_after_a_figure, "stopped at its limit of 1 s", 1),
        (fail, "failed: ValueError: as a kernel would", 0),
        (die, "died with code 7", 0),
    ],
    ids=["too long", "error", "death"],
)
def test_a_part_that_does_not_end_well_keeps_its_figures(
    work: Any, state: str, figures: int, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "measure_part", work)
    report = script.Report(tmp_path / "gpu.json")
    script.run_limited("fork", "search", True, tmp_path, report, limit=1)
    assert report.read()["parts"]["search"]["state"] == state
    assert len(report.read()["rows"]) == figures


def test_time_that_a_part_leaves_goes_to_the_next(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limits: list[float] = []

    def end_at_once(method: str, part: str, simulate: bool, folder: Path, report: Any, limit: float) -> None:
        limits.append(limit)
        report.end_part(part, "done", 0.0)

    monkeypatch.setattr(script, "run_limited", end_at_once)
    script.run_all({"one": 1, "two": 1, "three": 2}, "fork", True, script.Report(tmp_path / "gpu.json"), minutes=2)
    assert limits == pytest.approx([30, 40, 120], abs=1)  # a quarter of 120 s, a third, all


def test_waits_of_a_real_card_are_counted_by_place(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch tells them: a warning for each, in the mode that is on within the block alone."""
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with script.training.Card().counted_waits() as waits:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    (place,) = waits
    assert waits[place] == 3 and place.startswith("tests/gpu/test_gpu_script.py:")
    assert modes == ["warn", "default"]


def test_tables_are_printed_again(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    report = script.Report(tmp_path / "gpu.json")
    report.write(simulated=False)
    bound = {"bound": 2000.0, "least_share": 0.6}
    report.add("training", "2 layers, queries alone", "batch 512", 1300.0, "queries/s", **bound)
    report.add("training", "6 layers, queries alone", "batch 512", 1000.0, "queries/s", **bound)
    report.end_part("training", "stopped at its limit of 90 s", 90.0)
    monkeypatch.setattr("sys.argv", ["gpu.py", "--table", str(report.path)])
    script.main()
    printed = capsys.readouterr().out
    assert "| 2 layers, queries alone | not measured yet | 1,300 (65%, met) | not measured yet |" in printed
    assert "| 6 layers, queries alone | not measured yet | 1,000 (50%, not met) | not measured yet |" in printed
    assert "training: stopped at its limit of 90 s" in printed


def test_result_page_has_its_tables(script: ModuleType) -> None:
    """Filled or not: what was measured stands in the cells alone."""
    page = (SCRIPT.parent / "RESULT.md").read_text()
    first_cells = [line.split(" | ")[0] for line in script.make_tables({"rows": []}).splitlines() if line.startswith("| ")]
    assert [cell for cell in first_cells if f"\n{cell} | " not in page] == []


@pytest.mark.parametrize("name", ["report", "sizes"])
def test_examples_run(name: str, script: ModuleType) -> None:
    module = __import__(f"card.{name}", fromlist=[name])
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
