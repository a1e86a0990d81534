"""A run folder from somebody else is data: what it names is not run, written or asked for, unless the user says --trust."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import distill
from own_source import Topics

from distill.files.configs import from_config
from distill.records import BadInput, NeedsTrust
from distill.run import Run
from distill.texts.described_source import make_described_source
from distill.texts.text_source import TextSource
from distill.training.run_folder import RunFolder

VERBS = {"search": ["river"], "evaluate": [], "report": [], "export": []}
CODE = "from pathlib import Path\nPath({mark!r}).touch()\nfrom distill import MsMarcoTsv\nclass Notes(MsMarcoTsv):\n    pass\n"


@pytest.fixture(scope="module")
def measured(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("measured") / "run"))
    assert distill("evaluate", run) == 0
    return run


@pytest.fixture
def run(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "run"))


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists once the stranger's module `strange_notes`, which lies in the working folder, was imported."""
    mark = tmp_path / "code-ran"
    (tmp_path / "strange_notes.py").write_text(CODE.format(mark=str(mark)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.modules", sys.modules)
    sys.modules.pop("strange_notes", None)
    return mark


def change(run: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    edit(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def name_source(run: Path, path: Any, arguments: dict[str, Any] | None = None) -> None:
    def edit(config: dict[str, Any]) -> None:
        kept = config["data"]["source"]["init_args"]
        config["data"]["source"] = {"class_path": path, "init_args": kept if arguments is None else arguments}

    change(run, edit)


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    assert distill(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("verb", VERBS)
def test_code_of_the_working_folder_is_not_imported(verb: str, run: Path, mark: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name_source(run, "strange_notes.Notes")
    (run / "report.html").unlink(missing_ok=True)
    line = refused(capsys, verb, run, *VERBS[verb])
    assert "strange_notes.Notes: is code outside of this package: give --trust" in line
    assert not mark.exists() and "strange_notes" not in sys.modules
    assert not (run / "report.html").exists()
    capsys.readouterr()
    if verb in ("search", "report"):
        assert distill(verb, "--trust", run, *VERBS[verb]) == 0
        assert mark.exists()


SOURCES = {
    "a function": ("os.system", {"command": "touch code-ran"}),
    "a process": ("subprocess.Popen", {"args": ["touch", "code-ran"]}),
    "a module of the standard library": ("antigravity.geohash", {"latitude": 1}),
    "within a source of ours": (
        "distill.texts.sources.Beir",
        {"root": {"class_path": "strange_notes.Notes", "init_args": {"root": "x"}}},
    ),
    "documents of a source of ours": (
        "distill.texts.collection.Collection",
        {"root": "texts", "documents": {"class_path": "strange_notes.Notes", "init_args": {"root": "x"}}},
    ),
    "what writes a folder": ("distill.texts.python_docs.PythonDocs", {"root": "code-ran"}),
    "what asks a hub": ("distill.texts.hubs.HfDataset", {"path": "nobody/nothing", "splits": ["test"]}),
    "what asks another hub": ("distill.texts.hubs.IrDatasets", {"corpus": "nothing", "splits": {"test": "nothing/test"}}),
    "a class of ours that reads devices": ("distill.generate.llm.Llm", {"model": "x", "prompt": "/dev/zero"}),
    "a class of ours that asks the hub": ("distill.generate.seq2seq.Seq2Seq", {"model": "nobody/nothing"}),
    "a writer of ours": ("distill.vectors.store_writer.StoreWriter", {"folder": "code-ran"}),
    "a name that is none": ([1, 2], {}),
    "arguments that are none": ("distill.texts.hubs.HfDataset", {"path": ["x"], "nothing": {"a": 1}}),
    "the program itself": ("distill.__main__.main", {}),
}


@pytest.mark.parametrize(("path", "arguments"), SOURCES.values(), ids=SOURCES)
def test_sources_that_do_more_than_read_files(
    path: Any, arguments: dict[str, Any], run: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name_source(run, path, arguments)
    line = refused(capsys, "search", run, "river")
    assert ("--trust" in line and "config.yaml: data.source: " in line) or "no source of texts" in line
    assert not mark.exists() and not Path("code-ran").exists()
    assert "antigravity" not in sys.modules and "strange_notes" not in sys.modules


def test_parts_that_only_a_training_needs_are_not_made(run: Path, mark: Path, source_root: Path) -> None:
    strange = {"class_path": "strange_notes.Notes", "init_args": {"root": str(source_root)}}

    def edit(config: dict[str, Any]) -> None:
        config["data"] |= {"fresh": strange, "teachers": {"a": strange}, "queries": ["/dev/zero"]}
        config["model"]["losses"] = {"a": strange}
        config["trainer"]["callbacks"] = [strange]

    change(run, edit)
    assert [hit.id for hit in Run(run).search("river", 2)]
    assert not mark.exists()


def test_corpora_that_are_here_need_no_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of docstrings that was written before is read; so is a data set that this machine has used."""
    root = tmp_path / "docs"
    root.mkdir()
    (root / "manifest.json").write_text(json.dumps({"kind": "python-docs", "limit": 20000, "most_documents": None}))
    node = {"class_path": "distill.texts.python_docs.PythonDocs", "init_args": {"root": str(root)}}
    assert make_described_source(node).root == root
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    node = {"class_path": "distill.texts.hubs.IrDatasets", "init_args": {"corpus": "mine", "splits": {"test": "mine/test"}}}
    with pytest.raises(NeedsTrust, match="asks a hub for what is not here yet"):
        make_described_source(node)
    source = from_config(node)
    source.folder.mkdir(parents=True)
    assert make_described_source(node).ids == {"test": "mine/test"}


def test_an_own_source_that_the_program_imported_needs_none(run: Path) -> None:
    name_source(run, "own_source.Topics", {})
    assert isinstance(RunFolder(run).data().source, Topics)


@pytest.mark.parametrize("has_module", [True, False])
def test_the_class_of_a_student(has_module: bool, run: Path, mark: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is imported with --trust alone; without it the run is read as far as its student has no modules of that class's package."""
    change(run, lambda config: config["model"].update(student={"class_path": "strange_notes.Student", "init_args": {}}))
    if has_module:
        modules = json.loads((run / "student" / "modules.json").read_text())
        modules[2]["type"] = "strange_notes.Scale"
        (run / "student" / "modules.json").write_text(json.dumps(modules))
        line = refused(capsys, "search", run, "river")
        assert "model.student: strange_notes.Student: is code outside of this package: give --trust" in line
    else:
        assert distill("search", run, "river") == 0
    assert not mark.exists()
    with pytest.raises(NeedsTrust, match=r"strange_notes\.Student: is code outside"):
        RunFolder(run).student_spec()


@pytest.mark.parametrize("path", ["__main__.Notes", "__main__.Outer.Notes", "mine.make.<locals>.Notes"])
@pytest.mark.parametrize("trust", [False, True])
def test_a_class_of_a_notebook_is_named_as_such(path: str, trust: bool) -> None:
    """Trust would not help: no other program can import it."""
    with pytest.raises(BadInput, match=r"was defined in a notebook, .*: move it into a module") as error:
        make_described_source({"class_path": path, "init_args": {}}, trust)
    assert not isinstance(error.value, NeedsTrust)
    with pytest.raises(BadInput, match="was defined in a notebook"):
        from_config({"class_path": path}, trust)


@pytest.mark.parametrize("path", ["distill.texts.sources.Beir", "os.system", "distill.generate.llm.Llm"])
def test_a_student_is_made_by_nothing_else(path: str, run: Path) -> None:
    change(run, lambda config: config["model"].update(student={"class_path": path, "init_args": {"command": "true"}}))
    with pytest.raises(BadInput, match=r"makes no student|no class of this package"):
        RunFolder(run).student_spec()


def test_alias_bombs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (run / "bomb.yaml").write_text(f"{bomb}k: *a11\n")
    assert "bomb.yaml: its aliases stand for more than" in refused(capsys, "search", "--config", run / "bomb.yaml", run, "river")
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + bomb)
    for verb, words in VERBS.items():
        assert "config.yaml: its aliases stand for more than" in refused(capsys, verb, run, *words)


@pytest.mark.parametrize("name", ["results.json", "student/config.json", "metrics.jsonl", "runs/test/student.trec"])
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_devices_and_pipes_are_not_read(name: str, kind: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert f"{name}: neither a file nor a folder: remove it" in refused(capsys, "report", run)


def test_rankings_are_not_written_through_a_link(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "test").mkdir(parents=True)
    (elsewhere / "test" / "teacher.trec").write_text("precious")
    shutil.rmtree(run / "runs")
    for link, target in ((run / "runs", elsewhere), (run / "runs" / "test", elsewhere / "test")):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        assert f"{link}: a link to {target}" in refused(capsys, "evaluate", run)
        link.unlink()
    assert (elsewhere / "test" / "teacher.trec").read_text() == "precious"
    (run / "runs").rmdir()
    (run / "runs").symlink_to(elsewhere)
    assert distill("evaluate", run, "--trust") == 0
    assert (elsewhere / "test" / "teacher.trec").read_text() != "precious"


def test_a_source_is_required() -> None:
    for node in (None, 7, "distill.texts.Beir", [], {"root": "x"}):
        with pytest.raises(BadInput, match="no source of texts"):
            make_described_source(node)
    assert issubclass(Topics, TextSource)
