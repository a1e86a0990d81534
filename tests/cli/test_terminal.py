"""What a terminal obeys never reaches it: from texts, titles, ids, names of files, servers and errors, it is shown written out."""

from __future__ import annotations

import ast
import io
import logging
import os
import shutil
import sys
from pathlib import Path

import pytest
from commands import distill

from distill.cli import terminal
from distill.cli.main import main, print_refusal
from distill.cli.search import show
from distill.files.progress import log, progress_bar, show_log
from distill.records import BadInput, printable
from distill.run import Hit

ESCAPES = {
    "colour": ("\x1b[31m", r"\x1b[31m"),
    "title of the window": ("\x1b]0;mine\x07", r"\x1b]0;mine\x07"),
    "clipboard": ("\x1b]52;c;cm0gLXJm\x1b\\", r"\x1b]52;c;cm0gLXJm\x1b" + "\\"),
    "link": ("\x1b]8;;http://evil\x1b\\", r"\x1b]8;;http://evil\x1b" + "\\"),
    "one byte for escape and bracket": ("\x9b2J", r"\x9b2J"),
    "to the beginning of the line": ("a\rb", r"a\rb"),
    "a letter back": ("a\bb", r"a\x08b"),
    "zero": ("\0", r"\x00"),
    "right to left": ("\u202egpj.exe", r"\u202egpj.exe"),
    "isolate": ("\u2066x", r"\u2066x"),
    "line of Unicode": ("\u2028x", r"\u2028x"),
    "delete": ("\x7f", r"\x7f"),
    "half a pair": ("\udcff", r"\udcff"),
}


@pytest.mark.parametrize(("text", "shown"), ESCAPES.values(), ids=ESCAPES)
def test_texts(text: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "propagate", False)  # pytest's own record of the log would have them raw
    assert printable(text) == shown
    show([(text, [Hit(0.5, text, "", text), Hit(0.5, "d", text, "")])])
    assert print_refusal(f"search: {text}") == 2
    show_log()
    log.warning(f"read {text}")
    out, error = capsys.readouterr()
    assert text not in out + error
    assert (out + error).count(shown) >= 4


def test_other_letters_stay() -> None:
    text = "Grüße, 你好\t\u0645\u0631\u062d\u0628\u0627 \u200f\u05e9\u05dc\u05d5\u05dd\nzwei \U0001f600"
    assert printable(text) == text
    assert printable("a\nb", breaks=False) == r"a\nb"


def test_a_title_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show([("a query", [Hit(0.5, "d", "title\n  2. 0.999  forged", "")])])
    assert capsys.readouterr().out.splitlines() == ["", "a query", r"  1. 0.500  title\n  2. 0.999  forged"]


def test_names_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(tmp_path / "\x1b[2Jrun\nsecond line")
    assert distill("search", name, "river") == 2
    Path(name).mkdir()
    assert distill("report", name) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(r"\x1b[2Jrun\nsecond line" in line for line in lines)
    assert str(BadInput("a\x1bb\nc")) == r"a\x1bb\nc"


def test_values_that_the_parser_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "run", "query", "--k", "\x1b[31mmany"]) == 2
    assert main(["\x1b[31msearch"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_names_of_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(total=1, desc="queries-\x1b[31m", unit=" texts") as bar:
        bar.update(1)
    assert "\x1b[31m" not in capsys.readouterr().err
    assert bar.desc.startswith(r"queries-\x1b[31m")


def test_errors_that_nobody_expected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    terminal.show_errors_clean()
    error = RuntimeError("the server said \x1b[2J")
    sys.excepthook(RuntimeError, error, None)
    assert capsys.readouterr().err == "RuntimeError: the server said \\x1b[2J\n"
    monkeypatch.setattr(sys, "excepthook", print)  # somebody else's, as IPython has
    terminal.show_errors_clean()
    assert sys.excepthook is print


def test_letters_that_the_terminal_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.show_text("für 你")
    stream.flush()
    show_log()
    log.warning("queries of 你.csv")
    stream.flush()
    lines = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert lines == "für \\u4f60\nwarning: queries of \\u4f60.csv\n".encode("latin-1")


def test_everything_is_printed_in_one_place() -> None:
    folder = Path(terminal.__file__).parent
    printers = []
    for path in [*folder.glob("*.py"), folder.parent / "files" / "progress.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert "printable" in ast.unparse(node), f"{path.name}:{node.lineno} prints a text that is not cleaned: use show_text"
                printers.append(path.name)
    assert sorted(printers) == ["progress.py", "progress.py", "terminal.py"]


def test_a_search_of_such_documents(run_folder: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A whole run, whose documents and queries were trained on as they are."""
    assert distill("search", run_folder, "\x1b]0;mine\x07 river", "--k", 1) == 0
    assert b"\x1b" not in capfdbinary.readouterr().out
    logging.getLogger("distill").info("end")
    copy = tmp_path / os.fsdecode(b"run-\xff")  # a name that is no UTF-8
    shutil.copytree(run_folder, copy)
    assert distill("report", copy) == 2
    assert rb"run-\udcff" in capfdbinary.readouterr().err
