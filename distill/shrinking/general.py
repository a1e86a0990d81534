"""Reads general texts, which pieces are cut from beside a user's own documents."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from distill.records import BadInput
from distill.texts.hubs import refuse_hub_errors, stream_rows
from distill.texts.table_files import OPENERS
from distill.texts.tables import read_rows
from distill.texts.text_files import file_ending
from distill.texts.texts import Texts

MOST_TEXTS = 50_000  # read of a hub, or kept of files; pieces are cut from fewer
SHUFFLED = 10_000  # rows of a hub's data set among which the next one is drawn, as neighbours are often about one subject
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
CORPUS_FILES = ("corpus.jsonl", "corpus.jsonl.gz", "collection.tsv", "collection.tsv.gz")


def read_general(given: Any) -> Texts:
    """Reads general texts into memory, at most 50,000 of them: drawn at random from files, and from about the first 60,000 rows of a hub.

    Args:
        given: texts as `distill.texts.tables.read_rows` takes them; a folder in BEIR or MS MARCO layout, of which the documents are read;
            or the name of a data set of the Hugging Face hub in BEIR's layout, such as BeIR/nq, which needs the extra `hub`.

    Raises:
        BadInput: no such file or data set, or no text in it.

    >>> list(read_general(["a general text", "and another"]))
    ['a general text', 'and another']
    """
    texts = list(filter(None, _read_hub(given) if is_hub_name(given) else draw_texts(_read_files(given), MOST_TEXTS)))
    if not texts:
        raise BadInput(f"general: {given!s:.60}: no text in it: name another file")
    return Texts.from_lists(list(map(str, range(len(texts)))), texts, name="general")


def is_hub_name(given: Any) -> bool:
    """Tells whether texts are named as a data set of the hub is, and no file or folder is there.

    >>> is_hub_name("BeIR/nq"), is_hub_name("data/general.csv"), is_hub_name("/data/general")
    (True, False, False)
    """
    if not isinstance(given, str) or Path(given).exists() or Path(given).parent.is_dir():
        return False
    return HUB_NAME.fullmatch(given) is not None and file_ending(Path(given)) not in OPENERS


def draw_texts(texts: Iterable[str], most: int, seed: int = 0) -> list[str]:
    """Returns `most` of the texts, each with the same chance, in one pass over them; all of them where they are no more.

    >>> len(draw_texts(map(str, range(100)), most=7)), draw_texts(["a", "b"], most=7)
    (7, ['a', 'b'])
    """
    draw, drawn = random.Random(seed), []
    for number, text in enumerate(texts):
        if number < most:
            drawn.append(text)
        elif (place := draw.randrange(number + 1)) < most:
            drawn[place] = text
    return drawn


def join_title(title: str | None, text: str | None) -> str:
    """Returns a text with its title before it."""
    return f"{title or ''} {text or ''}".strip()


def _read_files(given: Any) -> Iterator[str]:
    if isinstance(given, str | Path) and Path(given).is_dir():
        given = next((Path(given) / name for name in CORPUS_FILES if (Path(given) / name).is_file()), given)
    return (join_title(row.title, row.text) for row in read_rows(given))


def _read_hub(name: str) -> list[str]:
    with refuse_hub_errors(f"general: {name}"):
        rows = stream_rows(name, "corpus", "corpus", None).shuffle(seed=0, buffer_size=SHUFFLED)
        return [join_title(row.get("title"), row.get("text")) for row in islice(rows, MOST_TEXTS)]
