"""The page of a run: its figures against the verbs' own, and what a browser makes of it."""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commands import distill, train_arguments
from conftest import make_source

from distill.evaluation.latency import measure_query_latency
from distill.records import BadInput
from distill.report.evidence import RunEvidence
from distill.report.figures import dominates, read_retention, run_charts
from distill.report.origin import describe_origin
from distill.report.query_results import split_into_bins
from distill.report.report import report

NASTY = '</script><img src=x onerror="document.title=1"> & "quotes" river'
SECTIONS = [
    "query length",
    "the teacher's margin",
    "dataset",
    "of every query",
    "Alignment",
    "Loss",
    "Agreement",
    "Kept on dev",
    "bound on the gap",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    """`one` and `two`: runs of a small world that has markup in a query and in a document, evaluated on the same two splits."""
    root = tmp_path_factory.mktemp("report")
    texts = make_source(root / "texts", documents=120, train=96, dev=30, seed=5)
    for name in ("collection.tsv", "queries.test.tsv"):
        lines = (texts / name).read_text().splitlines()
        lines[0] = lines[0].split("\t")[0] + "\t" + NASTY
        (texts / name).write_text("\n".join(lines) + "\n")
    for kind in ("queries", "qrels"):
        lines = (texts / f"{kind}.dev.tsv").read_text().replace("dev", "more")
        (texts / f"{kind}.more.tsv").write_text(lines)
    source = ["--source", "MsMarcoTsv", "--source.root", texts]
    assert distill("encode", "--teacher", teacher_folder, *source, "--precision", "fp32", "--out", root / "store") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.evaluation.costs.measure_query_latency", functools.partial(measure_query_latency, rounds=3, warm_up=1))
        for name, epochs in (("one", 1), ("two", 3)):
            assert distill(*train_arguments(texts, root / "store", root / name, "--trainer.max_epochs", epochs)) == 0
            assert distill("evaluate", root / name, "--split", "test+more") == 0
    assert distill("report", root / "two", "--hour_price", 0.5) == 0
    assert distill("report", root / "one", root / "two", "--out", root / "both.html") == 0
    return root


class Words(HTMLParser):
    """The text of a page, and the elements it is made of."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._script = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._script else f" {data.strip()}"


def test_page_says_what_the_results_say(root: Path) -> None:
    page = (root / "two" / "report.html").read_text()
    words, results = Words(page), json.loads((root / "two" / "results.json").read_text())
    kept = results["retention"]["ndcg@10"]
    low, high = (end * 100 for end in kept["ci95"])
    assert f"two keeps {kept['value']:.1%} [{low:.1f}, {high:.1f}] of nDCG@10 at " in words.text
    for system in results["systems"].values():
        assert f"{system['ndcg@10']:.4f}" in words.text and f"{system['query_latency_ms_p50'] / 3.6:.2f}" in words.text
    assert f"{results['systems']['student']['query_latency_ms_p50'] / 3.6 * 0.5:.2f}" in words.text
    assert results["provenance"]["student"] in words.text
    assert (
        re.search(r"distill encode --teacher \S+ .*--precision fp32 --out", words.text)
        and shlex.join(results["provenance"]["command"][1:]) in words.text
    )
    assert len(page) < 3e6
    assert "http://" not in re.sub(r"https?://(www\.chartjs\.org|www\.w3\.org|git\.io)\S*", "", page)


COMMIT = "$(touch ran)"
WORDS = ["distill", "train", "--out", "a; touch ran", "`touch ran`", "$(touch ran)", "line\ntouch ran\n", "\x1b[201~touch ran\r"]


def test_the_command_that_encodes_has_every_option_of_the_store(root: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    record = json.loads((run / "results.json").read_text())
    record["provenance"]["teacher"] |= {"dimensions": 16, "max_length": 12}
    (run / "results.json").write_text(json.dumps(record))
    assert "--max_length 12 --dimensions 16 --out" in describe_origin(RunEvidence(str(run)))["commands"]
    record["provenance"]["teacher"]["vectors"] = "0123456789abcdef"  # imported, and compared with the teacher
    (run / "results.json").write_text(json.dumps(record))
    assert describe_origin(RunEvidence(str(run)))["commands"].count("which were imported") == 1


@pytest.mark.parametrize("origin", ["model", "import"])
def test_commands_of_a_page_are_words_to_a_shell(origin: str, root: Path, tmp_path: Path) -> None:
    """A run of somebody else whose record would run another command where the page's are pasted into a shell."""
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    for name in ("run.json", "results.json"):
        record = json.loads((run / name).read_text())
        record["provenance"] |= {"commit": COMMIT, "command": WORDS}
        if "teacher" in record["provenance"]:
            record["provenance"]["teacher"] |= {"name": "x\ntouch ran; touch ran", "origin": origin}
        (run / name).write_text(json.dumps(record))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["store"] = "store\ntouch ran; touch ran #"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    commands = describe_origin(RunEvidence(str(run)))["commands"]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", commands)
    encode, *others = commands.splitlines()  # no `git checkout` of what is no commit
    assert others == [f"distill {shlex.join(word.encode('unicode_escape').decode() for word in WORDS[1:])}"]
    subprocess.run(["bash", "-c", f"distill() {{ :; }}\n{commands}"], cwd=tmp_path, check=True)
    assert not (tmp_path / "ran").exists()
    words = shlex.split(encode)
    assert (words[:2] == ["distill", "encode"]) == (origin == "model")
    assert words[:1] == ["#"] or words[words.index("--out") + 1] == r"store\ntouch ran; touch ran #"
    assert origin == "model" or encode.startswith("# 'store")  # quoted, as some shells run what is pasted behind #


def test_what_it_returns(root: Path, tmp_path: Path) -> None:
    result = report([str(root / "two")], str(tmp_path / "page.html"))
    verdict = json.loads((root / "two" / "results.json").read_text())["retention"]["ndcg@10"]["value"]
    assert result.path == tmp_path / "page.html" and result.path.exists()
    assert result.verdict.startswith(f"two keeps {verdict:.1%} [") and str(result) == f"{result.verdict}\n{result.path}"


@pytest.mark.parametrize("measured", ["export", "other processor", "evaluate", "before 0.2"])
def test_latencies_are_those_of_one_core_and_one_machine(measured: str, root: Path, tmp_path: Path) -> None:
    """The same figure of a model of the student: from the evaluation, else from an export on the same processor."""
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    results = json.loads((run / "results.json").read_text())
    systems = {name: system["query_latency_ms_p50"] for name, system in results["systems"].items()}
    processor = "another" if measured == "other processor" else results["provenance"]["processor"]
    paths = {name: {"query_latency_ms_p50": milliseconds} for name, milliseconds in (("PyTorch", 9.0), ("ONNX fp32", 7.0))}
    (run / "export").mkdir()
    (run / "export" / "latency.json").write_text(json.dumps({"processor": processor, "paths": paths}))
    if measured == "evaluate":
        results["latency"]["paths"] = {"ONNX fp32": {"query_latency_ms_p50": 5.0}}
    if measured == "before 0.2":
        del results["latency"]
    (run / "results.json").write_text(json.dumps(results))
    served = {"export": {"student, ONNX fp32": 7.0}, "evaluate": {"student, ONNX fp32": 5.0}}.get(measured, {})
    assert RunEvidence(str(run)).latencies == systems | served
    page = Words(report([str(run)]).path.read_text()).text
    assert ("on one core of" in page) == (measured != "before 0.2")


def test_texts_are_escaped(root: Path) -> None:
    page = (root / "two" / "report.html").read_text()
    found = Words(page)
    assert "img" not in found.tags and found.tags.count("script") == 3
    assert NASTY in " ".join(found.text.split()) or "&lt;/script&gt;&lt;img" not in page  # shown only where it is a loser or winner
    assert "<img" not in page


def test_groups_are_the_queries_once_each(root: Path) -> None:
    run = RunEvidence(str(root / "two"))
    assert run.queries is not None and len(run.queries.ids) == 60
    by_title = {chart["title"]: chart for chart in run_charts(run)}
    assert len({chart["id"] for chart in by_title.values()}) == len(by_title)
    for wanted in SECTIONS:
        assert [title for title in by_title if wanted in title], wanted
    for part in ("query length", "margin", "dataset"):
        chart = next(chart for title, chart in by_title.items() if part in title and chart["kind"] == "intervals")
        counts = [int(re.search(r"n=(\d+)", label)[1]) for label in chart["labels"]]  # type: ignore[index]
        assert sum(counts) == 60 and len(counts) > 1
        for value, (low, high) in zip(chart["values"], chart["intervals"], strict=True):
            assert low <= value <= high
    # by hand: what is kept on the split `more`
    student, teacher = (run.queries.values[name]["ndcg@10"][30:].mean() for name in ("student", "teacher"))
    assert by_title["Kept nDCG@10 by dataset"]["values"][1] == pytest.approx(student / teacher)
    assert run.cosines is not None and run.cosines.mean() == pytest.approx(run.results.agreement["cosine"], abs=1e-3)
    assert run.missing == []


def test_margins_and_words_by_hand(root: Path) -> None:
    queries = RunEvidence(str(root / "two")).queries
    assert queries is not None
    first, second = (score for _, score in queries.rankings["teacher"][queries.ids[3]][:2])
    assert queries.margins[3] == pytest.approx(first - second)
    assert queries.word_counts[3] == len(queries.texts[3].split())


def test_bins_by_hand() -> None:
    found = [(label, members.tolist()) for label, members in split_into_bins(np.array([1, 2, 2, 3, 5, 9]), 2, whole=True)]
    assert found == [("1-2", [True, True, True, False, False, False]), ("3-9", [False, False, False, True, True, True])]
    assert list(split_into_bins(np.array([4.0, 4.0]))) == []


def test_pareto_by_hand() -> None:
    points = {"cheap": (1, 0.9), "good": (2, 0.95), "beaten": (2, 0.9), "twin": (1, 0.9)}
    front = {name for name, one in points.items() if not any(dominates(other, one) for other in points.values())}
    assert front == {"cheap", "good", "twin"}


def test_unjudged_queries_are_told_by_overlap(root: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    for path in (root / "texts").iterdir():
        if not path.name.startswith("qrels"):
            (tmp_path / "texts").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "texts")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(root / "texts"), str(tmp_path / "texts")))
    assert distill("evaluate", run) == 0
    assert distill("report", run) == 0
    page = Words((run / "report.html").read_text()).text
    verdict = r"run finds \d+\.\d% \[\d+\.\d, \d+\.\d\] of the teacher's top 10 at"
    assert re.search(verdict, page) and "Kept overlap@10 by query length" in page
    assert read_retention(RunEvidence(str(run)), "overlap@10").low < read_retention(RunEvidence(str(run)), "overlap@10").value
    with pytest.raises(BadInput, match="run: has no nDCG@10, which the others are compared by: evaluate it again"):
        read_retention(RunEvidence(str(run)), "ndcg@10")


def test_without_its_texts_a_run_still_has_a_page(root: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(root / "texts"), str(tmp_path / "gone")))
    (run / "health.jsonl").write_text('{"step": 7, "fault": "norms", "message": "too <long>"}\n')
    assert distill("report", run, "--out", tmp_path / "page.html") == 0
    page = Words((tmp_path / "page.html").read_text())
    assert f"Left out, as it could not be read: {tmp_path / 'gone'}" in page.text
    assert "Training warned at step 7: too <long>" in page.text
    assert page.text.count("Losers and winners") == 0 and "Latency of one query" in page.text


def test_rankings_of_other_results_are_refused(root: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    shutil.copy(run / "runs" / "test+more" / "teacher.trec", run / "runs" / "test+more" / "student.trec")
    with pytest.raises(BadInput, match=r"results.json: \S+ of student is .* run distill evaluate again"):
        _ = RunEvidence(str(run)).queries


def test_other_results_leave_a_run_its_rankings(root: Path, teacher_folder: Path, tmp_path: Path) -> None:
    """Another corpus, whose split has the same name, and a baseline that ranks documents which are in none of them."""
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    other = make_source(tmp_path / "texts", documents=40, seed=9)
    source = ["--source", "MsMarcoTsv", "--source.root", other]
    assert distill("encode", "--teacher", teacher_folder, *source, "--precision", "fp32", "--out", tmp_path / "store") == 0
    shutil.copytree(run / "runs" / "test+more", run / "runs" / "test")
    before = (run / "runs" / "test" / "student.trec").read_bytes()
    assert distill("evaluate", run, *source, "--store", tmp_path / "store", "--out", run / "results-other.json") == 0
    assert (run / "runs" / "test" / "student.trec").read_bytes() == before
    assert (run / "runs-other" / "test" / "student.trec").read_bytes() != before
    rankings = (run / "runs" / "test+more" / "teacher.trec").read_text().splitlines()
    elsewhere = {line.split()[0]: f"{line.split()[0]} Q0 of-another-corpus 0 9999 x" for line in rankings}
    texts = shutil.copytree(root / "texts", tmp_path / "same")
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(str(root / "texts"), str(texts)))
    with open(texts / "qrels.more.tsv", "a") as judgments:
        judgments.write(f"{next(query for query in elsewhere if query.startswith('more'))} 0 of-another-corpus 1\n")
    (tmp_path / "given.trec").write_text("\n".join([*elsewhere.values(), *rankings]) + "\n")
    assert distill("evaluate", run, "--split", "test+more", "--baselines", json.dumps({"given": str(tmp_path / "given.trec")})) == 0
    systems = json.loads((run / "results.json").read_text())["systems"]
    assert systems["given"]["mrr@10"] < systems["teacher"]["mrr@10"]  # what is elsewhere keeps its place
    assert distill("report", run) == 0


def test_runs_that_different_releases_measured_are_compared(root: Path, tmp_path: Path) -> None:
    """Releases up to 0.2 recorded another fingerprint of the queries, which is accepted as long as their file is the same."""
    texts = RunEvidence(str(root / "two")).source.queries("test+more")
    old = Path(shutil.copytree(root / "two", tmp_path / "old"))
    results = json.loads((old / "results.json").read_text())
    assert results["provenance"]["texts"] == texts.content_fingerprint != texts.fingerprint
    results["provenance"]["texts"] = texts.fingerprint
    (old / "results.json").write_text(json.dumps(results))
    assert RunEvidence(str(old)).queries is not None
    assert distill("report", root / "one", old, "--out", tmp_path / "both.html") == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="install the extra `dev`")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


INK = """() => [...document.querySelectorAll("canvas")].map((canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(Array.from({length: pixels.length / 4}, (_, i) => pixels.slice(4 * i, 4 * i + 4).join())).size;
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two/report.html", "both.html"])
def test_page_in_a_browser(root: Path, browser: Any, scheme: str, name: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{root / name}")
    inks = page.evaluate(INK)
    assert len(inks) >= (10 if "two" in name else 4) and min(inks) > 10, inks  # colours of each chart: axes, labels, marks
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", shade)[:3])) < 150) == (scheme == "dark")
    assert said == [] and asked == [f"file://{root / name}"]
    assert page.title().startswith("distill: ")  # no text of the corpus was run
    page.close()


def test_table_is_sorted_and_filtered(root: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(f"file://{root / 'two' / 'report.html'}")

    def column(number: int) -> list[str]:
        return page.locator(f"#ranked tbody:not([hidden]) tr:first-child td:nth-child({number})").all_inner_texts()

    whole = column(4)
    assert len(whole) > 5
    for _ in range(2):  # ascending, then descending
        page.locator("#ranked th button").nth(3).click()
        descending = page.locator("#ranked th").nth(3).get_attribute("aria-sort") == "descending"
        numbers = [float(value) for value in column(4)]
        assert numbers == sorted(numbers, reverse=descending)
    assert descending
    page.locator("#ranked th button").nth(0).click()
    assert [text.lower() for text in column(1)] == sorted(text.lower() for text in column(1))
    page.select_option("#kind", "loser")
    assert column(4) and all(float(value) < 0 for value in column(4))
    page.select_option("#kind", "")
    word = column(1)[0].split()[-1]
    page.fill("#words", word.upper())
    assert 0 < len(column(1)) < len(whole) and all(word in text for text in column(1))
    assert page.inner_text("#shown") == f"{len(column(1))} of {len(whole)} queries"
    page.close()


@pytest.mark.parametrize("verb", ["shrink", "frontier"])
def test_a_job_is_one_command(verb: str, root: Path, tmp_path: Path) -> None:
    """It writes the texts and the vectors itself."""
    run = Path(shutil.copytree(root / "two", tmp_path / "run"))
    for name in ("run.json", "results.json"):
        record = json.loads((run / name).read_text())
        record["provenance"] |= {"commit": None, "command": ["/bin/distill", verb, "--out", "runs/mine"]}
        (run / name).write_text(json.dumps(record))
    assert describe_origin(RunEvidence(str(run)))["commands"] == f"distill {verb} --out runs/mine"
