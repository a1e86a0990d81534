"""Reads documents and queries out of files as people have them, whichever fields hold the texts, and writes them as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from distill.files.atomic import write_atomically
from distill.files.progress import log
from distill.records import BadInput
from distill.texts.ids import ID_NAMES, LONGEST_ID_BYTES, Ids, as_bytes, describe_bad_id
from distill.texts.table_files import OPENERS, Records, Table, open_table
from distill.texts.text_files import file_ending
from distill.texts.texts import Texts, hash_wordings

Kind = Literal["queries", "documents"]
ROLES = ("id", "title", "text")
# names that a field of texts commonly has, likeliest first
TEXT_NAMES: dict[Kind, tuple[str, ...]] = {
    "queries": ("text", "query", "question"),
    "documents": ("text", "contents", "body", "passage"),
}
HASH_DIGITS = 12
IDS_AT_ONCE = 65_536


class Row(NamedTuple):
    """A document or a query."""

    id: str | None  # None where the file has no ids
    title: str
    text: str
    place: str  # where it comes from, for messages: "notes.csv line 3"


@dataclass(frozen=True)
class Fields:
    """Names of the fields that hold the id, the title and the text of a row."""

    id: str | None
    title: str | None
    text: str

    @property
    def names(self) -> list[str]:
        return [name for name in (self.id, self.title, self.text) if name is not None]


def read_rows(
    given: str | Path | Sequence[str | Mapping[str, Any]] | Texts, fields: Mapping[str, str] | None = None, kind: Kind = "documents"
) -> Iterator[Row]:
    """Reads documents or queries one after the other.

    A file's ending tells its kind: .txt (a text a line), .tsv, .csv, .jsonl (also .ndjson and .json) or .parquet; .gz may follow all but
    the last. A TSV file without a header has a text a line, or an id and a text; one with a known or a given name in its first line has
    a header, and a CSV file always has one.

    Args:
        given: the file, a folder of .parquet or .jsonl files, or a list of texts or of mappings; `log.csv:query` is short for the
            file log.csv with `fields={"text": "query"}`.
        fields: names of the fields, e.g. {"id": "article_id", "title": "headline", "text": "body"}. By default the id is in `_id`, `id`,
            `docid` or a similar field, the title in `title`, and the text in `text`, else for queries in `query` or `question` and for
            documents in `contents`, `body` or `passage`; a table with one field alone has texts in it.
        kind: which of the two is read.

    Returns:
        The rows, in order. Errors of a file as a whole are raised at once, those of a row when it is its turn.

    Raises:
        BadInput: no such file, a kind of file or a field that is not known, a row without a text or an id.

    >>> [row.text for row in read_rows([{"question": "what is the Rhine"}], kind="queries")]
    ['what is the Rhine']
    """
    fields = dict(fields or {})
    unknown = set(fields) - set(ROLES)
    if unknown:
        raise BadInput(f"fields: {sorted(unknown)[0]!r} is none of {', '.join(ROLES)}")
    if isinstance(given, str | Path):
        path, text_field = _split_field(given)
        if text_field is not None and fields.setdefault("text", text_field) != text_field:
            raise BadInput(f"{given}: fields say that the text is in {fields['text']!r}: name one of the two")
        header_names = {name.lower() for name in (*ID_NAMES, "title", *TEXT_NAMES[kind], *fields.values())}
        tables = [open_table(file, header_names) for file in _list_files(path)]
    else:
        tables = [_open_list(given, kind)] if given else []
    chosen = [(table, _choose_fields(table, fields, kind)) for table in tables]
    return (_make_row(record, names, place) for table, names in chosen for place, record in table.read(names.names))


def read_queries(given: str | Path | Sequence[str] | Texts, text_field: str | None = None, id_field: str | None = None) -> Texts:
    """Reads queries into memory, each wording once; in the package's front it is called `distill.queries`.

    Whitespace at the ends of a query is removed. Where there are no ids, an id is a hash of the wording, so that it stays the same
    when queries are added. Of queries that differ in whitespace and case alone the first one is kept.

    Args:
        given: a list of queries, a part of queries that were read before, or a file of them as `read_rows` takes it.
        text_field: name of the field that holds the queries.
        id_field: name of the field that holds their ids.

    Returns:
        N queries; `split` sets some of them aside.

    Raises:
        BadInput: the file cannot be read, or there is no query in it.

    >>> queries = read_queries(["what is the Rhine", " how to bake "])
    >>> list(queries), list(queries.ids)
    (['what is the Rhine', 'how to bake'], ['077ea189dba1', '9323e179de62'])
    """
    given_fields = {role: name for role, name in (("text", text_field), ("id", id_field)) if name is not None}
    name, ids, texts, empty = "queries", [], [], 0
    if isinstance(given, str | Path):
        name = _split_field(given)[0].name.removesuffix(".gz").rpartition(".")[0]
    for row in read_rows(given, given_fields, "queries"):
        text = row.text.strip()
        if not text:
            empty += 1
            continue
        ids.append(row.id)
        texts.append(text)
    if not texts:
        raise BadInput(f"{given if isinstance(given, str | Path) else name}: no query in it: give at least one text that is not empty")
    hashes = hash_wordings(texts)
    first_rows = np.sort(np.unique(hashes, return_index=True)[1])
    if empty or len(first_rows) < len(texts):
        log.info(f"{name}: {len(first_rows)} queries; left out: {empty} empty ones and {len(texts) - len(first_rows)} repeats of a wording")
    first_ids = Ids.of([ids[i] or f"{hashes[i]:016x}"[:HASH_DIGITS] for i in first_rows])
    return Texts.from_lists(list(first_ids.with_numbered_repeats()), [texts[i] for i in first_rows], name)


def write_documents(path: str | Path, rows: Iterable[Row]) -> None:
    """Writes documents as JSON lines with `_id`, `title` and `text`; only their ids are in memory.

    Args:
        path: the file, which is whole or absent.
        rows: the documents; one without an id is called by its number, from 0 on.

    Raises:
        BadInput: two documents share an id, or there is no document.
    """
    rows, number, ids = iter(rows), 0, []
    with write_atomically(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        while part := list(islice(rows, IDS_AT_ONCE)):
            names = [str(number + i) if row.id is None else row.id for i, row in enumerate(part)]
            for id_, row in zip(names, part, strict=True):
                file.write(json.dumps({"_id": id_, "title": row.title, "text": row.text}) + "\n")
            ids.append(as_bytes(names))
            number += len(part)
        if not number:
            raise BadInput("documents: there are none: give at least one")
        _refuse_repeated_ids(Ids(np.concatenate(ids)))


def _refuse_repeated_ids(ids: Ids) -> None:
    rows = ids.first_duplicate_rows()
    if rows is not None:
        first, second = rows
        raise BadInput(f"documents: number {second + 1} has the id {ids[first]!r} of number {first + 1}: ids must be unique")


def _split_field(given: str | Path) -> tuple[Path, str | None]:
    """Splits `FILE:FIELD`; the field is None where there is none."""
    head, colon, field = str(given).rpartition(":")
    if not colon or not field or os.path.exists(given) or file_ending(Path(head)).lower() not in OPENERS:
        return Path(given), None
    return Path(head), field


def _list_files(path: Path) -> list[Path]:
    """The file, or the .parquet or .jsonl files of a folder in the order of their names."""
    if not os.path.isdir(path):
        return [path]
    files = sorted(file for file in path.iterdir() if file_ending(file) in (".parquet", ".jsonl") and not file.name.startswith("."))
    if not files:
        raise BadInput(f"{path}: no .parquet and no .jsonl file in this folder: name a file")
    if len({file_ending(file) for file in files}) > 1:
        raise BadInput(f"{path}: both .parquet and .jsonl files in this folder: name one file, or move the others away")
    return files


def _open_list(given: Sequence[str | Mapping[str, Any]] | Texts, kind: Kind) -> Table:
    """Texts or mappings that are in memory, or a part of texts that were read before, as a table."""

    def read(wanted: list[str]) -> Records:
        if isinstance(given, Texts):
            return ((f"{given.name}[{i}]", {"id": id_, "text": text}) for i, (id_, text) in enumerate(zip(given.ids, given, strict=True)))
        return ((f"{kind}[{i}]", item if isinstance(item, Mapping) else {"text": item}) for i, item in enumerate(given))

    _, first = next(read([]))
    return Table(kind, list(first), read, may_have_more=True)


def _choose_fields(table: Table, given: Mapping[str, str], kind: Kind) -> Fields:
    """Finds the fields of a row's parts: given ones, else those with known names."""
    for name in given.values():
        if name not in table.fields:
            raise BadInput(f"{table.name}: no field {name!r}: there are {', '.join(table.fields)}")
    by_lower_case = {field.lower(): field for field in reversed(table.fields)}
    chosen: dict[str, str | None] = {}
    for role, known in (("id", ID_NAMES), ("title", ("title",)), ("text", TEXT_NAMES[kind])):
        chosen[role] = given.get(role) or next((by_lower_case[name] for name in known if name in by_lower_case), None)
    if table.may_have_more and chosen["title"] is None:
        chosen["title"] = "title"  # of those records that have one
    text = chosen["text"]
    if text is None and len(table.fields) == 1 and not chosen["id"]:
        text = table.fields[0]
        chosen["title"] = None
    if text is None:
        choices = ", ".join(table.fields)
        raise BadInput(f"{table.name}: which field is the text? There are {choices}: name one, e.g. {table.name}:{table.fields[-1]}")
    fields = Fields(chosen["id"], chosen["title"], text)
    repeated = next((name for name in fields.names if table.fields.count(name) > 1), None)
    if repeated is not None:
        raise BadInput(f"{table.name}: two columns are called {repeated!r}: rename one")
    return fields


def _make_row(record: Mapping[str, Any], fields: Fields, place: str) -> Row:
    text = _look_up(record, fields.text, place)
    if not isinstance(text, str):
        raise BadInput(f"{place}: {fields.text} is {text!r:.40} of type {type(text).__name__}: give a string")
    title = None if fields.title is None else record.get(fields.title)
    if not isinstance(title, str | None):
        raise BadInput(f"{place}: {fields.title} is {title!r:.40} of type {type(title).__name__}: give a string")
    return Row(_read_id(record, fields.id, place), title or "", text, place)


def _read_id(record: Mapping[str, Any], field: str | None, place: str) -> str | None:
    if field is None:
        return None
    value = _look_up(record, field, place)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise BadInput(f"{place}: {field} is {value!r:.40} of type {type(value).__name__}: give a string or a whole number")
    id_ = str(value).strip()
    length = len(id_.encode(errors="replace"))
    if not 0 < length <= LONGEST_ID_BYTES:
        raise BadInput(f"{place} {describe_bad_id(length)}")
    if any(character in id_ for character in "\t\r\n\0"):  # files of judgments have ids between tabs, a line each
        raise BadInput(f"{place}: the id {id_[:40]!r} has a tab, a line break or a zero: give another")
    return id_


def _look_up(record: Mapping[str, Any], field: str, place: str) -> Any:
    if field not in record:
        raise BadInput(f"{place}: no field {field!r}: there are {', '.join(record) or 'none'}")
    return record[field]
