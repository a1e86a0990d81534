"""The table of docs/which-teachers.md: tests compare what they found with it, and write it where WRITE_TABLE=1 is in the environment."""

from __future__ import annotations

import os
from pathlib import Path

from teacher_families import FAMILIES

PAGE = Path(__file__).parents[1] / "docs" / "which-teachers.md"
COLUMNS = ["family", "teachers of it", "tokenizer", "padding", "a student of its layers", "ONNX"]
WRITES = os.environ.get("WRITE_TABLE") == "1"
FIX = "WRITE_TABLE=1 pytest tests/encoders/test_teacher_families.py tests/export/test_family_graphs.py writes it"


def split_page(text: str) -> tuple[str, list[str], str]:
    """The page up to the table's heading and with it, the lines of the table, and what follows."""
    head = write_line(COLUMNS) + "\n" + "|---" * len(COLUMNS) + "|\n"
    before, _, rest = text.partition(head)
    table, _, after = rest.partition("\n\n") if rest.startswith("|") else ("", "", rest.removeprefix("\n"))
    return before + head, table.splitlines(), after


def read_rows(text: str) -> dict[str, dict[str, str]]:
    """The cells of the page's table by family and column."""
    rows = [dict(zip(COLUMNS, line.strip("| ").split(" | "), strict=True)) for line in split_page(text)[1]]
    return {row["family"]: row for row in rows}


def write_rows(text: str, rows: dict[str, dict[str, str]]) -> str:
    """The page with the table of `rows`."""
    before, _, after = split_page(text)
    lines = [write_line([row[column] for column in COLUMNS]) for row in rows.values()]
    return "\n".join([before + lines[0], *lines[1:], "", after])


def write_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def check_cells(family: str, **found: str) -> None:
    """Compares what a test found of a family with its row of the page, or writes it there; `_` in a name stands for a space."""
    cells = {"family": family, "teachers of it": FAMILIES[family].example, **{key.replace("_", " "): value for key, value in found.items()}}
    text = PAGE.read_text(encoding="utf-8")
    rows = read_rows(text)
    if WRITES:
        rows = {name: rows.get(name, dict.fromkeys(COLUMNS, "?")) for name in FAMILIES}
        rows[family] |= cells
        PAGE.write_text(write_rows(text, rows), encoding="utf-8")
    else:
        assert {column: rows.get(family, {}).get(column) for column in cells} == cells, FIX
