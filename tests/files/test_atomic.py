import os
import socket
import subprocess
import sys

import pytest
import xxhash

from distill.files.atomic import path_within, read_json, refuse_unreadable, write_atomically, write_json
from distill.files.cache import cache_folder
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.records import BadInput


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with write_atomically(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk on fire"), write_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk on fire")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as temporary:
        temporary.mkdir()
        (temporary / "half").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["folder"]
    assert names(path) == ["old"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with write_atomically(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert names(path) == ["second"]
    assert names(tmp_path) == ["folder"]


def test_others_read_what_a_library_kept_private(tmp_path):
    """0644 and 0755 under the usual umask, 0640 and 0750 under 027; rights that are there stay."""
    code = """
import os, sys
from pathlib import Path
from distill.files.atomic import write_atomically

os.umask(int(sys.argv[1], 8))
out = Path(sys.argv[2])
with write_atomically(out / "folder") as temporary:
    temporary.mkdir(mode=0o700)
    (temporary / "inner").mkdir(mode=0o700)
    os.close(os.open(temporary / "inner" / "weights", os.O_CREAT | os.O_WRONLY, 0o600))
    os.close(os.open(temporary / "program", os.O_CREAT | os.O_WRONLY, 0o700))
with write_atomically(out / "file") as temporary:
    os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
"""
    paths = ["folder", "folder/inner", "folder/inner/weights", "folder/program", "file"]
    for umask, modes in {"022": [0o755, 0o755, 0o644, 0o744, 0o644], "027": [0o750, 0o750, 0o640, 0o740, 0o640]}.items():
        out = tmp_path / umask
        subprocess.run([sys.executable, "-c", code, umask, str(out)], check=True)
        assert [(out / path).stat().st_mode & 0o777 for path in paths] == modes


def test_the_remains_of_a_killed_process_with_our_number_are_cleared(tmp_path):
    remains = tmp_path / f".folder.{socket.gethostname()}.{os.getpid()}.tmp"
    remains.mkdir()
    (remains / "half").write_text("half")
    with write_atomically(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "whole").write_text("whole")
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == ["whole"]


def test_fingerprints_are_equal_for_equal_values_only():
    assert fingerprint("a", {"x": 1, "y": [2]}) == fingerprint("a", {"y": [2], "x": 1})
    different = [fingerprint(*parts) for parts in [("a", 1), ("a", 2), (1, "a"), ("a", "1"), (["a", 1],), ("a1",), ()]]
    assert len(set(different)) == len(different)
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in different)


def test_a_fingerprint_is_the_same_in_another_process():
    code = "from distill.files.fingerprints import fingerprint; print(fingerprint('é', {'b': 1, 'a': {'z': None}}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.strip() == fingerprint("é", {"a": {"z": None}, "b": 1})


def test_a_file_is_fingerprinted_in_chunks(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 10)
    assert file_fingerprint(path) == file_fingerprint(path, chunk_bytes=7) == xxhash.xxh3_64_hexdigest(path.read_bytes())


def test_json_comes_back(tmp_path):
    value = {"name": "Zoë", "numbers": [1, 2.5, None], "nested": {"yes": True}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json", "value") == value
    assert "Zoë" in (tmp_path / "value.json").read_text(encoding="utf-8")
    write_json(tmp_path / "value.json", ["half a pair \ud800", "\U0001f600"])
    assert read_json(tmp_path / "value.json", "value") == ["half a pair \ud800", "\U0001f600"]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", object())
    assert read_json(tmp_path / "value.json", "value") == 1
    assert names(tmp_path) == ["value.json"]


def test_missing_json_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"none\.json: no store manifest here"):
        read_json(tmp_path / "none.json", "store manifest")


@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe"])
def test_broken_json_is_named(tmp_path, content):
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.json: store manifest is not valid JSON"):
        read_json(tmp_path / "broken.json", "store manifest")


def test_the_cache_moves_with_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    assert cache_folder().is_dir()


def test_what_goes_wrong_in_a_file_is_said_in_one_line():
    told = r"^run\.json: not a record, or a damaged one \(ValueError: two lines\): restore it$"
    with pytest.raises(BadInput, match=told), refuse_unreadable("a record", "run.json"):
        raise ValueError("two\nlines")
    for other in (BadInput("said before"), OSError("disk"), MemoryError("no room")):
        with pytest.raises(type(other), match=str(other)), refuse_unreadable("a record", "run.json"):
            raise other


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ".."])
def test_a_name_that_leaves_its_folder_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="outside of it"):
        path_within(tmp_path / "model", name)


@pytest.mark.parametrize("name", ["", "1_Pooling", "a/../b", "./c"])
def test_a_name_within_its_folder(tmp_path, name):
    assert path_within(tmp_path / "model", name) == (tmp_path / "model" / name).resolve()


def test_a_message_that_quotes_much_is_cut_in_its_middle():
    told = str(BadInput("run.trec:1: score '" + "9" * 5000 + "' is not a number"))
    assert len(told) < 2000 and told.startswith("run.trec:1: score '999") and told.endswith("999' is not a number")
