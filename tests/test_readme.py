"""The README's Python runs, top to bottom, on a small corpus with a small teacher; so do its first commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from commands import distill
from conftest import make_source

README = Path(__file__).parents[1] / "README.md"
# a teacher of four layers stands in for one of twelve
STAND_INS = {"[0, 11]": "[0, 3]", "'[0, 11]'": "'[0, 3]'"}


def make_beir(root: Path, msmarco: Path) -> None:
    """The texts of a folder in MS MARCO layout in BEIR layout."""
    (root / "qrels").mkdir(parents=True)

    def write(path: Path, lines: list[tuple[str, str]]) -> None:
        path.write_text("".join(json.dumps({"_id": id_, "text": text}) + "\n" for id_, text in lines))

    def read(name: str) -> list[list[str]]:
        return [line.split("\t") for line in (msmarco / name).read_text().splitlines()]

    write(root / "corpus.jsonl", [(id_, text) for id_, text in read("collection.tsv")])
    splits = ("train", "dev", "test")
    write(root / "queries.jsonl", [(id_, text) for split in splits for id_, text in read(f"queries.{split}.tsv")])
    for split in splits:
        judged = [f"{query}\t{document}\t{grade}\n" for query, _, document, grade in read(f"qrels.{split}.tsv")]
        (root / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))


@pytest.fixture
def world(tmp_path: Path, teacher_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_source(tmp_path / "msmarco")
    make_beir(tmp_path / "data" / "mycorpus", tmp_path / "msmarco")
    (tmp_path / "conf").symlink_to(README.parent / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(language: str, teacher: Path) -> list[str]:
    text = README.read_text(encoding="utf-8").replace("BAAI/bge-small-en-v1.5", str(teacher))
    for written, used in STAND_INS.items():
        text = text.replace(written, used)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(block: str) -> list[list[str]]:
    """The `distill` commands of a block, without what the shell reads beside them."""
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("distill ")]


def test_readme(world, teacher_folder):
    shell, python = blocks("bash", teacher_folder), blocks("python", teacher_folder)
    (first,) = [block for block in shell if "distill encode" in block and "distill search" in block]
    for command in commands(first):
        command = ["flat" if word == "hnsw" else word for word in command]  # the quickest index
        assert distill(*command, *(["--trainer.max_epochs", 1] if command[0] == "train" else [])) == 0, command
    names: dict[str, object] = {}
    assert len(python) == 5
    for block in python:
        exec(compile(block, str(README), "exec"), names)
    assert (world / "runs" / "from-python" / "report.html").exists()
    assert (world / "runs" / "plain-student" / "modules.json").exists()


def test_a_training_in_plain_lightning_takes_25_lines(teacher_folder):
    (block,) = [block for block in blocks("python", teacher_folder) if "from pytorch_lightning import Trainer" in block]
    assert len(block.splitlines()) <= 25
