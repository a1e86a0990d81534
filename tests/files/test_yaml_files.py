"""YAML of somebody else: plain values of a size that a configuration has, or one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml

from distill.files.yaml_files import read_yaml
from distill.records import BadInput

BOMBS = {
    "aliases of aliases": "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "merges of aliases": "a0: &a0 {k: v}\n"
    + "".join(f"a{i}: &a{i} {{k{i}: v, <<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)),
    "a list within itself": "a: &a [*a]\n",
    "a mapping within itself": "a: &a {b: *a}\n",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_aliases_that_stand_for_too_much(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    start = time.perf_counter()
    with pytest.raises(BadInput, match=r"config\.yaml: its aliases stand for more than 1000000 values: write them out"):
        read_yaml(tmp_path / "config.yaml")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        (b"a: " + b"[" * 5000, "not valid YAML"),
        (b"a: \xff\n", "not valid YAML"),
        (b"a: " + b"9" * 5000, "not valid YAML"),
        (b"#" * (17 << 20), "more than 16 MiB of YAML"),
    ],
    ids=["an object", "brackets", "no UTF-8", "digits", "size"],
)
def test_what_no_configuration_has(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(BadInput, match=f"config.yaml: {words}"):
        read_yaml(tmp_path / "config.yaml")


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(BadInput, match="not a file"):
        read_yaml(tmp_path / "config.yaml")


def test_usual_aliases_are_read(tmp_path: Path) -> None:
    """As `yaml.safe_dump` writes a list that stands in two places."""
    layers = [0, 3]
    text = yaml.safe_dump({"one": layers, "two": layers, "many": [layers] * 1000})
    assert "*id001" in text
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8-sig")
    assert read_yaml(tmp_path / "config.yaml") == {"one": layers, "two": layers, "many": [layers] * 1000}
