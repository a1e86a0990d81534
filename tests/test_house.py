"""What the whole package keeps to: nothing prints but the command line, files and functions are small, nothing stands twice."""

from __future__ import annotations

import ast
import doctest
import importlib
import resource
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import distill

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "distill").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION, USUAL_FUNCTION = 300, 50, 25  # lines
TWICE = 8  # lines in a row that may not stand in two places
PRINTERS = {"cli", "files/progress.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "distill").as_posix()


def functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of every function in a file, methods included."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [(f"{name_of(path)}:{node.name}", node.end_lineno - node.lineno + 1) for node in nodes if isinstance(node, kinds)]


def code_lines(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of the lines that say something: no blank ones, comments, imports or lone brackets."""
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if len(text) > 3 and not text.startswith(("#", "import ", "from ")):
            lines.append((number, text))
    return lines


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_command_line_prints(path):
    if name_of(path).startswith("cli/") or name_of(path) in PRINTERS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not prints, f"{name_of(path)}:{node.lineno} prints: log it, or return it to the command line"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_functions_are_short():
    lengths = [length for path in FILES for length in functions(path)]
    assert {name: lines for name, lines in lengths if lines > LONGEST_FUNCTION} == {}
    assert statistics.quantiles([lines for _, lines in lengths], n=10)[-1] <= USUAL_FUNCTION


def test_nothing_stands_twice():
    places = defaultdict(list)
    for path in FILES:
        lines = code_lines(path)
        for start in range(len(lines) - TWICE + 1):
            window = tuple(text for _, text in lines[start : start + TWICE])
            places[window].append(f"{name_of(path)}:{lines[start][0]}")
    assert [found for found in places.values() if len(found) > 1] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_examples_in_docstrings_run(path):
    if path.name == "__main__.py":
        return
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    failures, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failures == 0


def test_public_names_are_there_and_typed():
    for name in distill.__all__:
        assert getattr(distill, name).__name__ == distill.RENAMED.get(name, name)
    text = (ROOT / "distill" / "__init__.py").read_text(encoding="utf-8")
    typed = next(node for node in ast.parse(text).body if isinstance(node, ast.If))
    assert sorted(alias.asname or alias.name for line in typed.body for alias in line.names) == distill.__all__


def test_public_names_have_an_example_or_say_how():
    undocumented = [name for name in distill.__all__ if not (getattr(distill, name).__doc__ or "").strip()]
    assert undocumented == []


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'shrinc'"):
        distill.shrinc  # noqa: B018


@pytest.mark.parametrize("arguments", [["-c", "import distill"], ["-m", "distill", "--help"]], ids=" ".join)
def test_starting_takes_a_tenth_of_a_second(arguments):
    def seconds(command: list[str]) -> float:  # of the processor: other work on the machine takes none of them
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime

    bare = min(seconds(["-c", "pass"]) for _ in range(5))
    assert min(seconds(arguments) for _ in range(5)) - bare < 0.1
