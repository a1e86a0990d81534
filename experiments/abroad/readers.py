"""Reads paragraphs of English prose out of the files of packages: pages, documentation, dictionaries, tables, abstracts."""

from __future__ import annotations

import ast
import csv
import gzip
import html
import io
import json
import lzma
import re
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

WORDS = (8, 300)  # fewest and most of a paragraph
BLOCKS = {"p", "li", "dd", "dt", "td", "h1", "h2", "h3", "div", "section", "br", "tr", "blockquote", "para"}
SILENT = {"script", "style", "pre", "code", "nav", "title", "svg"}
WORD = re.compile(r"[A-Za-z][a-z'\u2019-]*[a-z][.,;:!?)\"\u201d]*|[AaI][.,;:]?")
COMMON = frozenset(
    "the of and to a in is for that with on as are be or by an it from this which can not you used".split()  # noqa: SIM905
)
MARKUP = re.compile(
    r":[a-z:]+:`~?([^`<]*?)(?: <[^>]*>)?`|`{1,2}([^`]*)`{1,2}_{0,2}|\[([^\]]*)\]\([^)]*\)|\*{1,2}([^*]+)\*{1,2}|https?://\S+"
)
ROFF = re.compile(r"\\f[A-Z]|\\&|\\[-e]|\\\(..|\\\*\S")
# of the judged collections that such a student is measured on, one is about this disease
LEFT_OUT = re.compile("covid|sars-cov|coronavirus|ncov", re.IGNORECASE)


class Page(HTMLParser):
    """Collects the texts of the blocks of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = [""]
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._silent += tag in SILENT
        if tag in BLOCKS:
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in SILENT and self._silent > 0
        if tag in BLOCKS:
            self.blocks.append("")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.blocks[-1] += data


def read_page(text: str) -> Iterator[str]:
    page = Page()
    page.feed(text)
    yield from page.blocks


def read_plain(text: str) -> Iterator[str]:
    """Blocks that blank lines part, without the markup of reStructuredText, Markdown and POD."""
    for block in re.split(r"\n\s*\n", re.sub(r"[A-Z]<+ ?([^<>]*?) ?>+", r"\1", text)):
        if not re.match(r"\s*(\.\. |```|\||=|[#~^-]{3,}|>>>)", block):
            yield MARKUP.sub(lambda match: next((group for group in match.groups() if group), " "), block.lstrip("#*-> "))


def read_manual(text: str) -> Iterator[str]:
    """Blocks of a page of the manual."""
    for block in re.split(r"\n(?:\.(?:PP|P|LP|TP|IP|SH|SS|sp|Pp|It|Sh|RS|RE|HP)\b.*\n?)+", text):
        lines = [line for line in block.splitlines() if not line.startswith((".", "'"))]
        yield ROFF.sub("", " ".join(lines))


def read_docstrings(text: str) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from read_plain(ast.get_docstring(node) or "")


def read_table(text: str) -> Iterator[str]:
    """The longest cell of each row, in parts of five sentences."""
    csv.field_size_limit(1 << 24)
    delimiter = "\t" if text[:2000].count("\t") > 2 else ","
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        sentences = re.split(r"(?<=[.!?]) ", max(row, key=len, default=""))
        yield from (" ".join(sentences[start : start + 5]) for start in range(0, len(sentences), 5))


def read_json(text: str) -> Iterator[str]:
    waiting = [json.loads(text)]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, str):
            yield from read_page(node)
        elif isinstance(node, list | dict):
            waiting[:0] = node.values() if isinstance(node, dict) else node


def read_dictionary(text: str) -> Iterator[str]:
    """Entries of the file of a dict server, whose lines are indented."""
    for block in re.split(r"\n(?=\S)|\n\s*\n", text):
        yield re.sub(r"\{([^}]*)\}", r"\1", block)


def read_tagged(text: str) -> Iterator[str]:
    """Paragraphs of the Brown corpus, without its part-of-speech tags."""
    for block in re.split(r"\n\s*\n\s*\n", text):
        words = " ".join(word.rsplit("/", 1)[0] for word in block.split()).replace("`` ", '"').replace(" ''", '"')
        yield re.sub(r" ([.,;:?!])", r"\1", words)


def read_terms(text: str) -> Iterator[str]:
    """Definitions of an ontology."""
    yield from re.findall(r'^(?:def: "|comment: )((?:[^"\\\n]|\\.)*)', text, re.MULTILINE)


def read_abstracts(text: str) -> Iterator[str]:
    """Title and abstract of each English article of PubMed from 2020 on."""
    for article in ElementTree.fromstring(text).iter("Article"):
        title, *parts = ["".join(node.itertext()) for path in ("ArticleTitle", "Abstract/AbstractText") for node in article.findall(path)]
        year = article.findtext(".//PubDate/Year") or "0"
        if article.findtext("Language") == "eng" and year >= "2020" and not title.startswith("["):
            yield f"{title} {' '.join(parts)}"


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        pattern: of its name.
        read: yields its paragraphs.
        goes_on: whether one paragraph goes on where the one before ended; else each is a text of its own.
    """

    pattern: str
    read: Callable[[str], Iterator[str]]
    goes_on: bool


KINDS = [  # the first that fits
    Kind(r"pubmed21.*\.xml$", read_abstracts, False),
    Kind(r"summaries_en-us\.json$|bioregistry/.*\.json$|package/.*\.json$", read_json, False),
    Kind(r"/c[a-r]\d\d$", read_tagged, True),
    Kind(r"\.obo$", read_terms, False),
    Kind(r"\.(html|xhtml|page|xhp|docbook)$", read_page, True),
    Kind(r"\.(rst|md|pod)$|/METADATA$", read_plain, True),
    Kind(r"\.py$", read_docstrings, False),
    Kind(r"(NewsArticles.*\.csv|newsgroups.*\.tab|reuters.*\.tab)$", read_table, False),
    Kind(r"\.dict$", read_dictionary, False),
    Kind(r"/man[1-8]/[^/]*\.[1-8][a-z]*$", read_manual, True),
]


def read_texts(name: str, content: bytes) -> list[list[str]]:
    """The texts of a file that are English prose, each a list of paragraphs."""
    if content[:2] == b"\x1f\x8b":
        name, content = re.sub(r"(\.dict)?\.(gz|dz)$", r"\1", name), gzip.decompress(content)
    kind = next((kind for kind in KINDS if re.search(kind.pattern, name)), None)
    if kind is None:
        return []
    cleaned = map(clean, kind.read(content.decode(errors="replace")))
    paragraphs = [text for text in cleaned if text is not None and not LEFT_OUT.search(text)]
    return [paragraphs] if kind.goes_on else [[text] for text in paragraphs]


def clean(block: str) -> str | None:
    """A block as one line; None where it is no English prose."""
    words = html.unescape(block).split()
    if len(words) < WORDS[0] or "\ufffd" in block:
        return None
    words = words[: WORDS[1]]
    is_prose = sum(bool(WORD.fullmatch(word)) for word in words) >= 0.75 * len(words)
    is_english = sum(word.lower() in COMMON for word in words) >= 0.1 * len(words)
    return " ".join(words) if is_prose and is_english else None


def list_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of each file in a wheel, an archive of npm or a Debian package."""
    if path.suffix == ".whl":
        yield from list_zip(path.read_bytes())
    elif path.suffix == ".deb":
        yield from list_tar(read_debian_data(path.read_bytes()))
    else:
        yield from list_tar(path.read_bytes())


def list_zip(content: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith(".zip"):
                yield from list_zip(archive.read(name))
            else:
                yield name, archive.read(name)


def list_tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def read_debian_data(content: bytes) -> bytes:
    """The archive of files in a Debian package, which is itself an `ar` archive."""
    place = 8
    while place < len(content):
        name, size = content[place : place + 16].decode().strip(), int(content[place + 48 : place + 58])
        data = content[place + 60 : place + 60 + size]
        if name.startswith("data.tar"):
            return lzma.decompress(data) if name.endswith(".xz") else data
        place += 60 + size + size % 2
    return b""
