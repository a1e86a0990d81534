"""Files of records that other programs wrote, by their endings: a text a line, TSV, CSV, JSON lines, parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from distill.files.parquet import open_parquet_files, read_records
from distill.files.text_lines import LONGEST_LINE, read_lines
from distill.records import BadInput
from distill.texts.ids import BYTE_ORDER_MARK
from distill.texts.text_files import file_ending

LONGEST_FIELD = LONGEST_LINE  # characters of a field of a CSV file; Python's own limit is 131,072, less than a long document
FEWEST_NUMBERS = 2  # lines of numbers that are no chance: 1984 is a query too
LINES_LOOKED_AT = 100  # of a file without a header, to see whether its second column has texts
# names of the columns of a TSV file that has no header, by their number
COLUMNS_WITHOUT_HEADER = {1: ["text"], 2: ["id", "text"]}
EXPECTED_JSON = 'expected a record on every line, such as {"id": "7", "text": "..."}'

Records = Iterator[tuple[str, Mapping[str, Any]]]  # the place of each record, for messages, and its values by field


@dataclass(frozen=True)
class Table:
    """Records in a file, read one after the other and from the start each time.

    Attributes:
        name: the file, as messages call it.
        fields: names of the fields; in JSON lines those of the first record.
        read: takes the names of the fields that are wanted, and yields all records with at least these.
        may_have_more: whether later records may have fields that the first one lacks.
    """

    name: str
    fields: list[str]
    read: Callable[[list[str]], Records]
    may_have_more: bool = False


def open_table(path: Path, header_names: Set[str]) -> Table:
    """Opens a file of records by its ending.

    Args:
        path: the file.
        header_names: in lower case; a TSV file whose first line has one of these in a column begins with a header.

    Raises:
        BadInput: no such file, a kind that is not known here, or nothing in it.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    opener = OPENERS.get(file_ending(path).lower())
    if opener is None or path.name.endswith(".parquet.gz"):
        endings = ", ".join(OPENERS)
        raise BadInput(f"{path}: its ending tells no kind of file that is read here: name it {endings} (.gz may follow all but .parquet)")
    table = opener(path, header_names)
    if not table.fields:
        raise BadInput(f"{path}: nothing in it: expected a text in every row")
    return table


def _open_txt(path: Path, header_names: Set[str]) -> Table:
    """A text a line, whatever the first one says."""

    def read(wanted: list[str]) -> Records:
        return ((_place(path, number), {"text": line}) for number, line in _read_filled_lines(path))

    return Table(str(path), ["text"], read)


def _open_tsv(path: Path, header_names: Set[str]) -> Table:
    """Columns between tabs, without quotes; a file without a header has a text a line, or an id and a text."""
    number, line = next(_read_filled_lines(path), (1, ""))
    cells = [cell.strip() for cell in line.split("\t")]
    has_header = any(cell.lower() in header_names for cell in cells)
    if not has_header and len(cells) not in COLUMNS_WITHOUT_HEADER:
        message = f"has {len(cells)} columns and no header: write a first line that names them, one of them text"
        raise BadInput(f"{_place(path, number)}: {message}")
    if not has_header and len(cells) == 2:
        texts = [line.partition("\t")[2].strip() for _, line in islice(_read_filled_lines(path), 1, LINES_LOOKED_AT)]
        if len(texts) >= FEWEST_NUMBERS and all(text.replace(".", "", 1).isdigit() for text in texts):
            fix = "write a first line that names the columns, one of them text"
            raise BadInput(f"{path}: its second column, which is read as the text, has numbers: {fix}")
    fields = cells if has_header else COLUMNS_WITHOUT_HEADER[len(cells)]
    most_splits = -1 if has_header else 1  # without a header the text is the rest of the line, tabs included

    def read(wanted: list[str]) -> Records:
        for number, line in islice(_read_filled_lines(path), int(has_header), None):
            yield _make_record(path, number, fields, line.split("\t", most_splits))

    return Table(str(path), fields if line else [], read)


def _open_csv(path: Path, header_names: Set[str]) -> Table:
    """The first row names the columns; values may stand in double quotes, and then hold commas and line breaks."""
    _, header = next(_read_csv(path), (1, []))
    fields = [cell.strip() for cell in header]

    def read(wanted: list[str]) -> Records:
        for number, cells in islice(_read_csv(path), 1, None):
            yield _make_record(path, number, fields, cells)

    return Table(str(path), fields, read)


def _open_json_lines(path: Path, header_names: Set[str]) -> Table:
    """A JSON object a line; the fields of the first one stand for all."""

    def read(wanted: list[str]) -> Records:
        return ((_place(path, number), _parse_json(path, number, line)) for number, line in _read_filled_lines(path))

    _, first = next(read([]), ("", {}))
    return Table(str(path), list(first), read, may_have_more=True)


def _open_parquet(path: Path, header_names: Set[str]) -> Table:
    """Any columns, of which only the wanted ones are read."""

    def read(wanted: list[str]) -> Records:
        return ((f"{path} row {row}", record) for row, record in enumerate(read_records(path, wanted), 1))

    return Table(str(path), open_parquet_files(path, [path])[0].schema_arrow.names, read)


OPENERS: dict[str, Callable[[Path, Set[str]], Table]] = {
    ".txt": _open_txt,
    ".tsv": _open_tsv,
    ".csv": _open_csv,
    ".jsonl": _open_json_lines,
    ".ndjson": _open_json_lines,
    ".json": _open_json_lines,
    ".parquet": _open_parquet,
}


def _read_filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The number and the text of every line that is not blank, without its end."""
    return ((number, line.rstrip("\r\n")) for number, line in read_lines(path) if line.strip())


def _read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row begins that is not blank, and its cells."""
    csv.field_size_limit(LONGEST_FIELD)
    numbered = read_lines(path)
    start, first = next(((number, line) for number, line in numbered if line.strip()), (1, ""))
    lines = (line for _, line in numbered)
    # spreadsheets write semicolons where the comma is a decimal point, and tabs where one asks for them
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    number = start
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                yield number, cells
            number = start + rows.line_num
    except csv.Error as error:
        raise BadInput(f"{_place(path, number)}: not CSV ({error}): close its quotes, and double those inside a value") from None


def _make_record(path: Path, number: int, fields: list[str], cells: list[str]) -> tuple[str, dict[str, str]]:
    """The place of a line and its cells by field; refuses a line that has more or fewer columns."""
    if len(cells) != len(fields):
        raise BadInput(f"{_place(path, number)}: has {len(cells)} columns, not {len(fields)}: expected {', '.join(fields)}")
    return _place(path, number), dict(zip(fields, cells, strict=True))


def _parse_json(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line.removeprefix(BYTE_ORDER_MARK))  # files that begin with the mark may have been joined
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or brackets nested thousands deep
        reason = getattr(error, "msg", type(error).__name__)
        raise BadInput(f"{_place(path, number)}: not valid JSON ({reason}): {EXPECTED_JSON}") from None
    if not isinstance(record, dict):
        raise BadInput(f"{_place(path, number)}: no JSON object: {EXPECTED_JSON}")
    return record


def _place(path: Path, number: int) -> str:
    return f"{path} line {number}"
