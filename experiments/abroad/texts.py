"""General English text out of downloaded packages, as a folder of documents to cut queries from: texts.py PACKAGES QUERIES OUT

PACKAGES is the folder that fetch.sh fills; QUERIES a TSV file of real queries, whose spelling `distill generate` asks for; OUT gets
corpus.jsonl and queries.train.jsonl. A document is up to 300 words of one file, none of which another document has.
"""

from __future__ import annotations

import csv
import json
import random
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from readers import list_files, read_texts

from distill.files.atomic import write_atomically

WORDS_PER_DOCUMENT = 300
KNOWN_BY = 60  # first characters by which a paragraph is told from others


def main(packages: Path, queries: Path, out: Path) -> None:
    if out.exists():
        return
    seen: set[int] = set()
    with open(Path(__file__).with_name("packages.tsv"), encoding="utf-8") as file, write_atomically(out) as temporary:
        temporary.mkdir()
        with open(temporary / "corpus.jsonl", "w", encoding="utf-8") as corpus:
            for row in csv.DictReader(file, delimiter="\t"):
                pattern = re.sub("[-_]", "[-_]", row["package"]) + "[-_]*"
                paths = sorted(packages.glob(pattern)) or sorted(packages.glob(pattern.lower()))
                most = 1000 * int(row["thousand words at most"])
                documents = choose_documents([text for path in paths for text in read_documents(path, seen)], most)
                words = sum(len(text.split()) for text in documents)
                print(f"{row['package']}: {len(documents)} documents, {words} words", flush=True)
                for number, text in enumerate(documents):
                    corpus.write(json.dumps({"_id": f"{row['package']}/{number}", "text": text}, ensure_ascii=False) + "\n")
        lines = [line.split("\t", 1) for line in queries.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
        content = "".join(json.dumps({"_id": id_, "text": text}, ensure_ascii=False) + "\n" for id_, text in lines)
        (temporary / "queries.train.jsonl").write_text(content, encoding="utf-8")


def read_documents(package: Path, seen: set[int]) -> Iterator[str]:
    """Yields the documents of a package."""
    for name, content in list_files(package):
        try:
            texts = read_texts(name, content)
        except (OSError, ValueError, EOFError, csv.Error, AssertionError, RecursionError, SyntaxError) as error:  # also of XML
            print(f"{package.name}: {name}: left out ({error})", file=sys.stderr)
            continue
        for paragraphs in texts:
            yield from join_paragraphs([text for text in paragraphs if is_new(text, seen)])


def is_new(text: str, seen: set[int]) -> bool:
    key = hash(text[:KNOWN_BY])
    if key in seen:
        return False
    seen.add(key)
    return True


def join_paragraphs(paragraphs: Sequence[str]) -> Iterator[str]:
    document: list[str] = []
    for text in paragraphs:
        words = text.split()
        if document and len(document) + len(words) > WORDS_PER_DOCUMENT:
            yield " ".join(document)
            document = []
        document += words
    if document:
        yield " ".join(document)


def choose_documents(documents: list[str], most_words: int) -> list[str]:
    """A random choice of documents with so many words at most."""
    random.Random(0).shuffle(documents)
    chosen, words = [], 0
    for text in documents:
        words += len(text.split())
        if words > most_words:
            break
        chosen.append(text)
    return chosen


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
