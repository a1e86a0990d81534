import sys

import pytest

from distill.files import progress
from distill.files.progress import progress_bar, show_log


def test_long_work_says_where_it_is_in_lines_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress_bar(total=4, desc="encode documents", unit=" texts") as bar:
        for _ in range(4):
            bar.update(1)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("encode documents: 2 of 4 texts, 00:00 gone, about 00:00 left, ") for line in lines)
    assert all(line.startswith("encode documents: ") for line in lines)  # nothing redrawn, no empty line


@pytest.mark.parametrize("shown", [True, False])
def test_short_work_says_nothing_there(shown, capsys):
    assert list(progress_bar(range(3), total=3, desc="search", unit=" documents", shown=shown)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(progress_bar(range(3), total=3, desc="mine", unit=" shards"))
    assert "mine: 100%" in capsys.readouterr().err
    list(progress_bar(range(3), total=3, desc="mine", unit=" shards", shown=False))
    assert capsys.readouterr().err == ""


@pytest.fixture
def own_log():
    """The library's log as it was before."""
    before = progress.log.handlers[:], progress.log.level, progress.log.propagate
    progress.log.handlers = []
    yield progress.log
    progress.log.handlers, progress.log.level, progress.log.propagate = before


def test_the_log_is_printed_on_request(own_log, capsys):
    own_log.info("not yet")
    show_log()
    show_log()
    own_log.info("out/store: written")
    own_log.warning("the student is collapsing")
    assert capsys.readouterr().out == "out/store: written\nwarning: the student is collapsing\n"
