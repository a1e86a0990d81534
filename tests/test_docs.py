"""README and docs: every command and every snippet runs, every link holds, and the site builds."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from snippets import ROOT, Snippet, check_unrun, load_module, make_world, read_snippets, run_page

from distill.cli.main import VERBS, main

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FIRST = ["steps.md", "quickstart.md"]  # what other pages go on from
GENERATED = {"cli.md", "images/retention.svg", *(f"measured/{path.parent.name}.md" for path in (ROOT / "experiments").glob("*/RESULT.md"))}
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture()
def here(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(str(world))
    return world


@pytest.fixture(scope="module")
def after_steps(world: Path) -> Path:
    """The world as the page of single steps leaves it, on which most pages go on."""
    with contextlib.chdir(world):
        run_page(DOCS / "steps.md")
    return world


@pytest.fixture(scope="module")
def after_quickstart(world: Path) -> Path:
    """The world as the quickstart leaves it."""
    with contextlib.chdir(world):
        run_page(DOCS / "quickstart.md")
    return world


@pytest.mark.slow
def test_step_by_step_leaves_what_it_says(after_steps: Path) -> None:
    runs = after_steps / "runs"
    for name in ("student/modules.json", "results.json", "report.html", "export/index/documents.faiss", "export/student/modules.json"):
        assert (runs / "bge-two-layers" / name).exists(), name
    assert json.loads((runs / "bge-holdout" / "results.json").read_text())["agreement"]["queries"] == 20
    assert (runs / "plain-student" / "modules.json").exists() and (runs / "from-python" / "report.html").exists()


@pytest.mark.slow
def test_quickstart_leaves_what_it_says(after_quickstart: Path) -> None:
    text = (DOCS / "quickstart.md").read_text()
    named = re.findall(r"`([\w.-]+/?)`", text[text.index("in `runs/mine/`") : text.index("Next:")])
    assert {"texts/", "store/", "student/", "results.json", "report.html", "export/"} <= set(named)
    for name in set(named):
        assert (after_quickstart / "runs" / "mine" / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("page", [path for path in PAGES if path.name not in FIRST], ids=lambda path: path.stem)
def test_page_runs(page: Path, after_steps: Path, here: Path, request: pytest.FixtureRequest) -> None:
    if "runs/mine" in page.read_text():
        request.getfixturevalue("after_quickstart")
    run_page(page)
    for table in here.glob("runs/*/results.tsv"):  # a sweep goes on after a training that failed
        assert "failed" not in table.read_text()


@pytest.mark.slow
def test_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_world(tmp_path))
    run_page(ROOT / "README.md")


@pytest.mark.slow
def test_server_of_the_page_answers(here: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    run_page(DOCS / "your-index.md")
    query = (here / "queries.txt").read_text().splitlines()[0]
    server = load_module(here / "serve.py")
    answer = TestClient(server.app).get("/search", params={"query": query, "k": 3}).json()
    scores = np.load("vectors.npy") @ server.student.encode_query(query)  # [N]
    ids = np.array((here / "ids.txt").read_text().split())
    assert [hit["score"] for hit in answer] == pytest.approx(np.sort(scores)[::-1][:3], abs=1e-5)
    assert {hit["id"] for hit in answer} <= set(ids[scores >= np.sort(scores)[-3] - 1e-5])


def test_a_training_in_plain_lightning_takes_25_lines() -> None:
    texts = [snippet.text for snippet in read_snippets(DOCS / "steps.md")]
    (block,) = [text for text in texts if "from pytorch_lightning import Trainer" in text]
    assert len(block.splitlines()) <= 25


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_what_is_not_run_can_be_parsed(page: Path, help_of: dict[str, str]) -> None:
    for snippet in read_snippets(page):
        assert snippet.language in ("", "bash", "python", "yaml"), f"{snippet}: {snippet.language}"
        if snippet.reason is not None:
            check_unrun(snippet, help_of)


@pytest.fixture(scope="module")
def help_of() -> dict[str, str]:
    """What `distill VERB --help` prints, by verb."""
    texts = {}
    for verb in VERBS:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([verb, "--help"])
        texts[verb] = text.getvalue()
    return texts


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_links_hold(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists() or (page.parent == DOCS and name in GENERATED), f"{page.name}: {target}"
        if anchor:
            assert anchor in read_anchors(file), f"{page.name}: {target}"


def read_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown makes them."""
    if not page.exists():
        page = ROOT / "experiments" / page.stem / "RESULT.md"
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = re.findall(r": ([\w/-]+\.md)", text)
    assert sorted(named) == sorted([*(path.name for path in PAGES), "cli.md"])  # those of experiments are added when the site is built


def test_every_public_name_is_in_the_reference() -> None:
    import distill

    named = re.findall(r"^::: distill\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert sorted(named) == distill.__all__


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in [*PAGES, ROOT / "README.md"] for name in re.findall(r"`?make (\w+)`?$", page.read_text(), re.MULTILINE)}
    assert named and named <= targets


@pytest.mark.slow
def test_site_builds_strictly_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="install the extra `docs`")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES) + len(GENERATED)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|img|link)[^>]+(src|href)=\"?https?://", text), f"{page}: loads something from elsewhere"
    assert 'href="measured/speed/"' in (tmp_path / "site" / "index.html").read_text()
    commands = (tmp_path / "site" / "cli" / "index.html").read_text()
    assert all(f'id="distill-{verb}"' in commands for verb in VERBS)


def test_examples_of_docstrings_are_fenced() -> None:
    pytest.importorskip("griffe", reason="install the extra `docs`")
    fence = load_module(DOCS / "fence_doctests.py").fence_doctests
    assert (
        fence("Adds.\n\nExample:\n    >>> 1 + 1\n    2\n\nMore.")
        == "Adds.\n\nExample:\n    ```pycon\n    >>> 1 + 1\n    2\n    ```\n\nMore."
    )
    assert fence("No example.\n\n    encoder = load()") == "No example.\n\n    encoder = load()"


@pytest.mark.parametrize("script", ["experiments/picture/run.sh"])
def test_commands_of_scripts_exist(script: str, help_of: dict[str, str]) -> None:
    lines = [line.strip() for line in (ROOT / script).read_text().replace("\\\n", " ").splitlines()]
    commands = [line for line in lines if line.startswith("distill ")]
    assert commands
    check_unrun(Snippet(script, 1, "bash", None, "takes minutes", "\n".join(commands)), help_of)


class TestPicture:
    """The picture of the README: drawn by a script, from figures that lie beside it."""

    @pytest.fixture(scope="class")
    def picture(self) -> ModuleType:
        return load_module(ROOT / "experiments" / "picture" / "picture.py")

    def test_is_what_the_script_draws(self, picture: ModuleType) -> None:
        assert picture.PICTURE.read_text() == picture.draw(json.loads(picture.POINTS.read_text()))
        assert doctest.testmod(picture).failed == 0

    def test_points_are_those_of_the_results(self, picture: ModuleType, tmp_path: Path) -> None:
        for layers, teacher, student, kept in ((1, 10.0, 2.0, 0.9), (2, 12.0, 4.0, 0.95), (4, 11.0, 6.0, 0.99)):
            write_results(tmp_path / f"run-{layers}", layers, teacher, student, kept)
        data = picture.collect(sorted(tmp_path.iterdir()))
        assert [(point["name"], point["milliseconds"], point["kept"]) for point in data["points"]] == [
            ("teacher", 11.0, 1.0),  # the median
            ("1 layer", 2.0, 0.9),
            ("2 layers", 4.0, 0.95),
            ("4 layers", 6.0, 0.99),
        ]
        assert data["points"][1]["low"] == 0.88 and data["points"][1]["high"] == 0.92
        assert data["provenance"]["commit"] == "abc" and data["provenance"]["from"][0] == "run-1/results.json"

    def test_places(self, picture: ModuleType) -> None:
        """0 to 10 ms lie on 70 to 690, 90% to 100% on 340 to 40: the student at 5 ms and 95% is at (380, 190)."""
        points = [{"name": "teacher", "milliseconds": 10, "kept": 1, "low": 1, "high": 1}]
        points.append({"name": "2 layers", "milliseconds": 5, "kept": 0.95, "low": 0.91, "high": 0.97})
        svg = picture.draw({"dataset": "d", "queries": 9, "latency": "one core", "points": points})
        assert '<circle class="student" cx="380.0" cy="190.0" r="6"/>' in svg and 'cx="690.0" cy="40.0"' in svg
        assert 'd="M380.0 310.0V130.0"' in svg  # 91% to 97%

    def test_runs_of_two_data_sets_are_refused(self, picture: ModuleType, tmp_path: Path) -> None:
        write_results(tmp_path / "a", 1, 1, 1, 1)
        write_results(tmp_path / "b", 1, 1, 1, 1, dataset="other/test")
        with pytest.raises(SystemExit, match="mine/test, other/test"):
            picture.collect([tmp_path / "a", tmp_path / "b"])


def write_results(run: Path, layers: int, teacher: float, student: float, kept: float, dataset: str = "mine/test") -> None:
    (run / "student").mkdir(parents=True)
    (run / "student" / "config.json").write_text(json.dumps({"num_hidden_layers": layers}))
    systems = {"teacher": {"query_latency_ms_p50": teacher}, "student": {"query_latency_ms_p50": student}}
    retention = {"ndcg@10": {"value": kept, "ci95": [kept - 0.02, kept + 0.02]}}
    values = {"dataset": dataset, "queries": 9, "systems": systems, "retention": retention, "provenance": {"commit": "abc", "gpus": []}}
    (run / "results.json").write_text(json.dumps(values))


def test_configurations_are_listed_with_what_they_are() -> None:
    pytest.importorskip("mkdocs", reason="install the extra `docs`")
    module = load_module(DOCS / "generated_pages.py")
    listed = set(re.findall(r"^\| `.+` \| `(\w+)` \| ", module.write_configurations(), re.MULTILINE))
    assert listed == {path.stem for group in module.GROUPS for path in (ROOT / "conf" / group).glob("*.yaml")}
    assert module.read_comment(ROOT / "conf/student/own_backbone.yaml").startswith("Any encoder as the student")
