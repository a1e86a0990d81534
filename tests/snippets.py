"""Runs the commands and the Python of README and docs, in miniature: a random teacher stands in for the one from the hub."""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as arrow
import yaml
from conftest import make_source, make_teacher, small_jobs
from pyarrow import parquet
from writers import make_writer

from distill.cli.main import VERBS, main
from distill.encoders.folder import load_encoder

ROOT = Path(__file__).parents[1]
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
FENCE = re.compile(r"```(\w*)(?: title=\"(.+)\")?$")
# what a page names, and what stands for it in the small world
SMALL = [
    (r"sentence-transformers/all-mpnet-base-v2|BAAI/bge-small-en-v1\.5", "teacher"),
    (r"sentence-transformers/paraphrase-MiniLM-L3-v2", "backbone"),
    (r"facebook/bart-base", "writer"),
    (r"--count 100000", "--count 300"),
    (r"--count 1000\b", "--count 50"),
    (r"--at_least 0\.95", "--at_least 0.1"),  # the small student keeps less
    (r"\[0, 11\]", "[0, 5]"),
    (r"table_width 128", "table_width 16"),
    (r"(--minutes |minutes=)\d+", r"\g<1>60"),
    (r"(distill\.shrink\((?![^\n]*minutes=)[^\n]+)\)\n", r"\1, minutes=60)\n"),  # ten by default, too few on a slow machine
]
LEFT_TO_THE_READER = ("pip install ", "python3 -m venv ", "make ")  # the first two are not ours, targets are tested elsewhere


@dataclass(frozen=True)
class Snippet:
    """A block of code in a page."""

    page: str
    line: int
    language: str
    title: str | None  # the file that the reader is to write it into
    reason: str | None  # why it is not run
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a bash block, without comments; continued lines are joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def read_snippets(path: Path) -> list[Snippet]:
    """All blocks of code of a page, in order; a comment `not run: REASON` before a block marks it."""
    snippets, reason, block = [], None, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fence, comment = FENCE.match(line), NOT_RUN.match(line)
        if block is None and fence:
            block = (number, fence[1], fence[2], [])
        elif block is not None and line == "```":
            snippets.append(Snippet(path.name, block[0], block[1], block[2], reason, "\n".join(block[3]) + "\n"))
            reason, block = None, None
        elif block is not None:
            block[3].append(line)
        elif comment:
            reason = comment[1]
        elif line:
            reason = None
    assert block is None, f"{path.name}: a block of code does not end"
    return snippets


def find_served_runs() -> set[str]:
    """The runs whose export some page loads."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    return {run for page in pages for run in re.findall(r"(runs/[\w-]+)/export", page.read_text(encoding="utf-8"))}


def run_page(path: Path) -> dict[str, Any]:
    """Runs a page from top to bottom in the current folder, as a reader would; returns what its Python defined."""
    namespace: dict[str, Any] = {}
    served = find_served_runs()
    for snippet in read_snippets(path):
        if snippet.reason is not None:
            continue
        loads_graphs = bool(served & set(re.findall(r"runs/[\w-]+", snippet.text)))
        for pattern, replacement in SMALL:
            snippet = Snippet(**{**vars(snippet), "text": re.sub(pattern, replacement, snippet.text)})
        with small_jobs(graphs=loads_graphs):
            run_snippet(snippet, namespace)
    return namespace


def run_snippet(snippet: Snippet, namespace: dict[str, Any]) -> None:
    if snippet.title is not None:
        Path(snippet.title).write_text(snippet.text, encoding="utf-8")
    elif snippet.language == "python":
        exec(compile(snippet.text, str(snippet), "exec"), namespace)
    elif snippet.language == "bash":
        run_commands(snippet)
    elif snippet.language == "yaml":
        yaml.safe_load(snippet.text)


def run_commands(snippet: Snippet) -> None:
    for words in snippet.commands:
        if words[:2] == ["distill", "shrink"] and "--minutes" not in words:
            words += ["--minutes", "60"]
        if words[0] == "distill":
            assert main(words[1:]) == 0, f"{snippet}: {shlex.join(words)}"
        else:
            assert shlex.join(words).startswith(LEFT_TO_THE_READER), f"{snippet}: {words[0]}: run it, or say why it is not run"


def check_unrun(snippet: Snippet, help_of: dict[str, str]) -> None:
    """Parses a block that is not run: Python compiles, verbs and options of `distill` exist.

    Args:
        help_of: what `distill VERB --help` prints, by verb.
    """
    if snippet.language == "python":
        ast.parse(snippet.text, str(snippet))
    for words in snippet.commands if snippet.language == "bash" else []:
        if "distill" not in words:
            continue
        verb, *arguments = words[words.index("distill") + 1 :]
        assert verb in VERBS, f"{snippet}: no verb {verb}"
        for option in (word.partition(".")[0] for word in arguments if word.startswith("--")):
            assert option in help_of[verb], f"{snippet}: {verb} has no option {option}"


def make_world(root: Path) -> Path:
    """A folder with a six-layer teacher and small texts at the places that README, docs and conf/ name."""
    make_teacher(root / "teacher", layers=6, positions=256, seed=1)
    make_teacher(root / "backbone", width=16, layers=1, seed=1)
    make_writer(root / "writer", "bart")
    make_source(root / "data" / "msmarco")
    make_source(root / "data" / "msmarco-dl")
    for split in ("dl19", "dl20"):
        for kind in ("queries", "qrels"):
            shutil.copy(root / "data" / "msmarco-dl" / f"{kind}.dev.tsv", root / "data" / "msmarco-dl" / f"{kind}.{split}.tsv")
    for corpus in ("beir", "mycorpus"):
        to_beir(root / "data" / "msmarco", root / "data" / corpus)
    for folder in ("others/one", "others/two", "watched/three"):  # collections of other domains
        to_beir(root / "data" / "msmarco", root / "data" / folder)
    shutil.copytree(ROOT / "conf", root / "conf")
    write_existing_vectors(root)
    write_company_files(root)
    return root


def read_tsv(path: Path) -> list[tuple[str, str]]:
    """(id, text) of each line."""
    return [tuple(line.split("\t", 1)) for line in path.read_text().splitlines()]  # type: ignore[misc]


def write_existing_vectors(root: Path) -> None:
    """Vectors that another program left, of a model that is nowhere."""
    for name, texts in (("docs", "collection.tsv"), ("train", "queries.train.tsv"), ("dev", "queries.dev.tsv")):
        ids = [id_ for id_, _ in read_tsv(root / "data" / "msmarco" / texts)]
        vectors = np.random.default_rng(0).standard_normal((len(ids), 8)).astype(np.float32)
        if name == "dev":
            parquet.write_table(arrow.table({"id": ids, "vector": list(vectors)}), root / "dev.parquet")
        else:
            np.save(root / f"{name}.npy", vectors)
            (root / f"{name}.txt").write_text("\n".join(ids))


def write_company_files(root: Path) -> None:
    """Texts and an index as companies have them: a log of searches, a table of articles, the teacher's vectors of these."""
    logged = [text for _, text in read_tsv(root / "data" / "msmarco" / "queries.train.tsv")]
    (root / "queries.txt").write_text("\n".join(logged))
    write_csv(root / "log.csv", ["time", "query"], [[str(number), text] for number, text in enumerate(logged)])
    make_source(root / "july", seed=7)
    asked = [text for _, text in read_tsv(root / "july" / "queries.train.tsv")]
    write_csv(root / "new-log.csv", ["time", "query"], [[str(number), text] for number, text in enumerate(asked)])
    (root / "more.tsv").write_text("".join(f"more{number}\t{text}\n" for number, text in enumerate(asked)))
    articles = [[id_, text.split()[0], text] for id_, text in read_tsv(root / "data" / "msmarco" / "collection.tsv")]
    write_csv(root / "articles.csv", ["article_id", "headline", "body"], articles)
    vectors = load_encoder(str(root / "teacher")).encode_document([f"{headline} {body}" for _, headline, body in articles])
    np.save(root / "vectors.npy", vectors)
    texts = [text for _, text in read_tsv(root / "data" / "msmarco" / "collection.tsv")]
    np.save(root / "bge.npy", load_encoder(str(root / "teacher")).encode_document(texts))
    (root / "ids.txt").write_text("".join(f"{id_}\n" for id_, _, _ in articles))


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def to_beir(msmarco: Path, beir: Path) -> None:
    """The same texts in BEIR layout."""
    (beir / "qrels").mkdir(parents=True)
    documents = read_tsv(msmarco / "collection.tsv")
    (beir / "corpus.jsonl").write_text("".join(json.dumps({"_id": id_, "title": "", "text": text}) + "\n" for id_, text in documents))
    with open(beir / "queries.jsonl", "w") as file:
        for split in ("train", "dev", "test"):
            for id_, text in read_tsv(msmarco / f"queries.{split}.tsv"):
                file.write(json.dumps({"_id": id_, "text": text}) + "\n")
            rows = (line.split() for line in (msmarco / f"qrels.{split}.tsv").read_text().splitlines())
            judged = "".join(f"{query}\t{document}\t{grade}\n" for query, _, document, grade in rows)
            (beir / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)


def load_module(path: Path) -> ModuleType:
    """Imports a file that is in no package."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module
