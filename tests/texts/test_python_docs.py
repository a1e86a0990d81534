import json
from pathlib import Path

import pytest

from distill.records import BadInput
from distill.texts.python_docs import PythonDocs


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))


MODULE = '''"""Tools to count the sheep. They come with two ways of counting,

by legs and by heads, and both are described below at length."""
import nowhere_to_be_found

class Flock(Exception):
    """
    Holds every sheep of a :class:`~farm.Farm` in `order`.

    Sheep are kept in the order in which they came, and a sheep that comes twice is    counted once.
    """
    def count(self):
        """Return the number of sheep in the flock.
        Args:
            none: this takes no arguments, it only counts what the flock holds.
        """
    def _private(self):
        """Return the number of legs in the flock.

        This is private, so it is not read even though it says enough to be kept."""
    def again(self):
        """Give the same answer as another.

        A summary that two documents share has no one right answer, so it is dropped: first."""

def again():
    """Give the same answer as another.

    A summary that two documents share has no one right answer, so it is dropped: second."""

def copied():
    """Another summary of the document.

    Sheep are kept in the order in which they came, and a sheep that comes twice is counted once."""

def short(): """Too short a document. Yes."""

def signature():
    """signature(a, b) returns a thing

    A summary that is a signature does not read like a question, so it is dropped as junk."""
'''


@pytest.fixture
def packages(tmp_path):
    for folder in ("farm/tests", "farm/_internal", "site-packages"):
        (tmp_path / "packages" / folder).mkdir(parents=True)
    root = tmp_path / "packages"
    (root / "farm" / "__init__.py").write_text(MODULE)
    for hidden in ("farm/tests/more.py", "farm/_internal/more.py", "site-packages/more.py", "farm/test_more.py", "farm/no-module.py"):
        (root / hidden).write_text('"""Never to be read by anyone.\n\n' + "A text that is long enough to be kept. " * 3 + '"""')
    (root / "farm" / "broken.py").write_text('def """')
    (root / "farm" / "plain.py").write_text("# no docstring")
    return [str(root)]


def test_docstrings_become_questions_and_answers(packages, tmp_path):
    source = PythonDocs(str(tmp_path / "docs"), packages=packages)
    documents = source.documents()
    assert dict(zip(documents.ids, documents, strict=True)) == {
        "farm": "They come with two ways of counting, by legs and by heads, and both are described below at length.",
        "farm.Flock": "Sheep are kept in the order in which they came, and a sheep that comes twice is counted once.",
        "farm.Flock.count": "Args: none: this takes no arguments, it only counts what the flock holds.",
    }
    assert documents.title(0) == "farm"
    queries = source.queries("+".join(source.splits()))
    assert dict(zip(queries.ids, queries, strict=True)) == {
        "q-farm": "Tools to count the sheep",
        "q-farm.Flock": "Holds every sheep of a farm.Farm in order",
        "q-farm.Flock.count": "Return the number of sheep in the flock",
    }
    assert source.qrels("+".join(source.splits())).judgments["q-farm"] == {"farm": 1}


def test_docstrings_are_written_once_and_always_alike(packages, tmp_path):
    one, two = (PythonDocs(str(tmp_path / name), packages=packages, limit=2) for name in ("one", "two"))
    assert one.documents().fingerprint == two.documents().fingerprint
    assert len(one.documents()) == 2
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["limit"], manifest["documents"]) == ("python-docs", 2, 2)
    assert sum(manifest["queries"].values()) == 2
    assert PythonDocs(str(tmp_path / "one"), packages=["gone"], limit=2).documents().fingerprint == one.documents().fingerprint
    with pytest.raises(BadInput, match="one: made with limit: 2, not 3: set that or name another folder"):
        PythonDocs(str(tmp_path / "one"), limit=3)


def test_docstring_corpus_errors(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadInput, match="mine: exists and is no corpus of docstrings: name a folder that does not exist"):
        PythonDocs(str(tmp_path / "mine"))
    with pytest.raises(BadInput, match="mine: no docstring that reads as a question"):
        PythonDocs(str(tmp_path / "docs"), packages=[str(tmp_path / "mine")]).documents()
    assert not (tmp_path / "docs").exists()


def test_docstrings_of_a_real_package(tmp_path):
    source = PythonDocs(str(tmp_path / "docs"), packages=[str(Path(json.__file__).parents[1] / name) for name in ("asyncio", "email")])
    assert len(source.documents()) > 50
    assert len(source.queries("train")) > len(source.queries("dev")) + len(source.queries("test"))
