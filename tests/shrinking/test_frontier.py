"""frontier: students of several sizes for one teacher, side by side, and the one to deploy."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from commands import distill as run_verb
from families import make_folder
from shrink_world import MINUTES, make_texts

import distill
from distill.cli.shrink import show
from distill.encoders.students import StudentFromTeacher
from distill.metrics.retention import Interval
from distill.records import BadInput
from distill.shrinking.budget import Rate
from distill.shrinking.comparison import Entry, recommend
from distill.shrinking.frontier import choose_affordable, choose_rounds, drop_beaten, refuse_short_share
from distill.shrinking.ladder import Candidate, Cost, Limits, list_candidates
from distill.shrinking.layers import name_layers_once
from distill.shrinking.request import Job, Request
from distill.shrinking.steps import prepare_job
from distill.shrinking.vectors import open_job_teacher


def make_entry(name: str, low: float, milliseconds: float, megabytes: float = 50.0) -> Entry:
    return Entry(name, Path(name), Interval(low + 0.01, low, low + 0.02), 0.7, Cost(milliseconds, megabytes), queries=100)


ENTRIES = [make_entry("1 layer", 0.95, 2.0), make_entry("2 layers", 0.975, 4.0), make_entry("3 layers", 0.98, 6.0)]


@pytest.mark.parametrize(
    ("limits", "at_least", "name"),
    [
        ((None, None), 0.97, "2 layers"),  # the fastest whose interval lies above
        ((None, None), 0.90, "1 layer"),
        ((None, None), 0.99, "3 layers"),  # none does: the one that keeps most
        ((5.0, None), 0.99, "2 layers"),  # of those within the limits
    ],
)
def test_the_fastest_student_that_surely_keeps_enough_is_recommended(limits, at_least, name):
    chosen, reason = recommend(ENTRIES, Limits(*limits, at_least), "nDCG@10")
    assert chosen.name == name
    assert reason.startswith(f"take {name}") and f"{chosen.retention.value:.1%} [" in reason
    assert ("none surely keeps" in reason) == (at_least == 0.99)


def test_the_more_students_are_compared_the_wider_an_interval_is_taken():
    lone, crowd = [make_entry("2 layers", 0.971, 4.0)], [make_entry(f"{number} layers", 0.971, number) for number in range(2, 12)]
    assert "the fastest that surely keeps 97%" in recommend(lone, Limits(), "nDCG@10")[1]
    assert "none surely keeps 97%" in recommend(crowd, Limits(), "nDCG@10")[1]


def test_of_four_queries_nothing_is_sure():
    found = [Entry("static", Path("static"), Interval(1.0, 1.0, 1.0), 0.55, Cost(0.4, 47.0), queries=4)]
    chosen, reason = recommend(found, Limits(), "nDCG@10")
    assert chosen.name == "static" and reason.endswith("nothing is sure by 4 queries: measure on 20 or more")


def test_the_share_is_said_as_it_was_asked_for():
    assert "surely keeps 97.5%" in recommend([make_entry("2 layers", 0.98, 4.0)], Limits(at_least=0.975), "nDCG@10")[1]


def test_a_student_that_is_beyond_the_limits_by_now_is_not_called_within_them():
    chosen, reason = recommend(ENTRIES, Limits(max_ms=1.0), "nDCG@10")
    assert reason.startswith("none is within the limits") and chosen.name == "1 layer" and "2.00 ms a query" in reason


def test_without_judgments_the_share_is_one_of_the_top_ten():
    found = [Entry("2 layers", Path("2"), Interval(0.77, 0.75, 0.79), 0.77, Cost(4.0, 62.0), queries=100)]
    _, reason = recommend(found, Limits(), "overlap@10")
    assert "surely keeps 70%: it finds 77.0% [75.0, 79.0] of the teacher's top 10 at 4.00 ms a query with 62 MB" in reason


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, teacher_folder, source_root) -> distill.Frontier:
    out = tmp_path_factory.mktemp("frontier") / "out"
    return distill.frontier(str(teacher_folder), documents=str(source_root), out=str(out), minutes=MINUTES)


def test_a_ladder_is_trained_and_measured(outcome):
    names = [entry.name for entry in outcome.entries]
    assert set(names) <= {"static", "1 layer", "2 layers", "3 layers"} and outcome.recommended.name in names
    assert [entry.cost.milliseconds for entry in outcome.entries] == sorted(entry.cost.milliseconds for entry in outcome.entries)
    for entry in outcome.entries:
        measured = distill.Run(entry.run).results
        assert entry.retention == measured.retention["ndcg@10"] and entry.overlap == measured.agreement["overlap@10"]
        assert entry.cost.megabytes == measured.systems["student"]["params"] * 4 / 1e6
        served = measured.values["latency"]["paths"]["NumPy"] if entry.name == "static" else measured.systems["student"]
        assert entry.cost.milliseconds == served["query_latency_ms_p50"]
    assert outcome.metric == "nDCG@10"
    assert outcome.run.student.encode_query("what is the river").shape == (outcome.run.student.width,)


def test_students_have_the_layers_that_were_chosen_before_any_was_trained(outcome):
    chosen = json.loads((outcome.path / "shrink.json").read_text())["decisions"]["layers"]
    for entry in outcome.entries:
        student = distill.Run(entry.run).folder.settings()["model"]["student"]["init_args"]
        assert entry.name == "static" or student["layers"] == chosen[int(entry.name[0]) - 1]


def test_the_report_and_the_record_hold_every_student(outcome):
    page = (outcome.path / "report.html").read_text()
    record = json.loads((outcome.path / "frontier.json").read_text())
    assert [student["name"] for student in record["students"]] == [entry.name for entry in outcome.entries]
    assert record["recommended"] == outcome.recommended.name and (outcome.path / record["students"][0]["run"]).is_dir()
    assert all(entry.run.name in page for entry in outcome.entries) and outcome.reason in html.unescape(page)
    lines = repr(outcome).splitlines()
    assert lines[0].split()[:2] == ["kept", "of"] and lines[-2].split()[0] == "teacher" and lines[-1] == outcome.reason


def test_the_last_round_goes_on_from_the_first(outcome):
    for entry in outcome.entries:
        settings = distill.Run(entry.run).folder.settings()
        assert settings["model"]["start_from"] == str(outcome.path / "students" / "first" / entry.run.name)
        first = distill.Run(settings["model"]["start_from"])
        assert distill.Run(entry.run).history["train/loss"].values[0] < first.history["train/loss"].values[0]


def test_a_student_that_a_cheaper_one_beats_after_the_first_round_is_dropped(outcome, caplog):
    caplog.set_level("INFO", logger="distill")
    first = {entry.name: distill.Run(outcome.path / "students" / "first" / entry.run.name) for entry in outcome.entries}
    agreement = {name: max(run.history["dev/overlap@10"].values) for name, run in first.items()}
    worst, best = min(agreement, key=agreement.__getitem__), max(agreement, key=agreement.__getitem__)
    candidates = [Candidate(name, StudentFromTeacher(1)) for name in (worst, best)]
    assert agreement[worst] < agreement[best]
    cheap, dear, many = Cost(1.0, 10.0), Cost(2.0, 20.0), 10**9  # queries, so that no difference is chance
    assert drop_beaten(candidates, first, {worst: dear, best: cheap}, many) == candidates[1:]
    assert f"{worst}: overlap@10 {agreement[worst]:.3f} on {many} dev queries: dropped" in caplog.text
    assert drop_beaten(candidates, first, {worst: cheap, best: dear}, many) == candidates
    assert drop_beaten(candidates, first, {worst: dear, best: cheap}, 1) == candidates


def test_the_same_call_again_is_done_at_once(outcome, teacher_folder, source_root):
    before = {path: path.stat().st_mtime_ns for path in outcome.path.rglob("*.safetensors")}
    again = distill.frontier(str(teacher_folder), documents=str(source_root), out=str(outcome.path), minutes=MINUTES, at_least=0.1)
    assert [entry.name for entry in again.entries] == [entry.name for entry in outcome.entries]
    assert again.recommended.name == again.entries[0].name  # other limits choose another of the same students
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())


def test_other_limits_leave_other_students_out_and_train_the_rest(outcome, teacher_folder, source_root):
    """The table of tokens is faster than any layer."""
    costs = json.loads((outcome.path / "shrink.json").read_text())["decisions"]["costs"]
    limit = (costs["static"]["milliseconds"] + costs["1 layer"]["milliseconds"]) / 2
    again = distill.frontier(str(teacher_folder), documents=str(source_root), out=str(outcome.path), minutes=MINUTES, max_ms=limit)
    assert [entry.name for entry in again.entries] == ["static"]
    narrow, smallest = (costs[f"1 layer, {table}"]["megabytes"] for table in ("narrow rows", "smallest table"))
    assert smallest < narrow < costs["1 layer"]["megabytes"]
    assert costs["1 layer, narrow rows"]["milliseconds"] == costs["1 layer"]["milliseconds"]


def test_the_folder_of_several_students_names_one(outcome, capsys):
    assert run_verb("evaluate", outcome.path) == 2
    assert f"has several students: name the run folder of one, e.g. {outcome.path / 'students'}" in capsys.readouterr().err


def test_where_two_rounds_do_not_fit_there_is_one(tmp_path, teacher_folder, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("distill.export.serving.missing_packages", list)  # graphs are exported as elsewhere
    monkeypatch.setattr("distill.shrinking.frontier.SHARE_OF_FIRST_ROUND", 1e-6)
    monkeypatch.setattr("distill.shrinking.ladder.MOST_LAYERS", 1)
    queries = make_texts(150, 9, seed=1)
    outcome = distill.frontier(str(teacher_folder), queries, out=str(tmp_path / "out"), minutes=MINUTES, at_least=0.01)
    assert not (tmp_path / "out" / "students" / "first").exists()
    assert {distill.Run(entry.run).folder.settings()["model"]["start_from"] for entry in outcome.entries} == {None} and len(
        outcome.entries
    ) == 2
    assert outcome.recommended == outcome.entries[0]
    for name, kind in (("static", "NumPy"), ("1 layer", "ONNX fp32")):
        entry = next(entry for entry in outcome.entries if entry.name == name)
        paths = distill.Run(entry.run).results.values["latency"]["paths"]
        assert entry.cost.milliseconds == paths[kind]["query_latency_ms_p50"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "students exported" in page and "ms exported" in page
    assert not list((tmp_path / "out").glob("tmp*"))


def test_too_little_time_is_said_in_minutes_of_the_whole_call(tmp_path, teacher_folder):
    with pytest.raises(BadInput, match=r"minutes: 1e-05: too short, even a little training takes [\d.]+"):
        distill.frontier(str(teacher_folder), make_texts(200, 9, seed=1), out=str(tmp_path / "out"), minutes=1e-5)


def test_a_student_that_cannot_be_cut_is_left_out(tmp_path, caplog, monkeypatch):
    """The first layer of ModernBERT is unlike the others, so that no student has its last one alone."""
    monkeypatch.setattr("distill.shrinking.ladder.MOST_LAYERS", 2)
    caplog.set_level("INFO", logger="distill")
    folder = str(make_folder(tmp_path / "modernbert", "modernbert"))
    outcome = distill.frontier(folder, make_texts(150, 9, seed=1), out=str(tmp_path / "out"), minutes=MINUTES, at_least=0.01)
    assert {entry.name for entry in outcome.entries} == {"static", "2 layers"}
    assert "1 layer: left out: layers: [3]: modernbert cannot be cut so" in caplog.text


def test_a_backbone_is_cut_where_the_teacher_cannot_be(tmp_path, teacher_folder):
    request = Request(str(teacher_folder), queries=make_texts(50, 9, seed=1), backbone=str(teacher_folder), out=tmp_path / "out")
    candidates = list_candidates(request, open_job_teacher(request))
    whole = [candidate for candidate in candidates if not candidate.instead_of]
    assert [candidate.name for candidate in whole] == ["1 layer", "2 layers", "3 layers", "4 layers"]
    assert [candidate.spec.keep_layers for candidate in candidates] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    job, texts = prepare_job(request, open_job_teacher(request))
    named = name_layers_once(request, job, texts, [candidate.spec for candidate in candidates])
    assert [spec.keep_layers for spec in named[::4]] == job.read("layers") == [spec.keep_layers for spec in named[3::4]]
    job.write("layers", [[3], [0, 3], [0, 1, 3], [0, 1, 2, 3]])  # a job that goes on keeps to its choice
    assert name_layers_once(request, job, texts, [candidates[4].spec])[0].keep_layers == [0, 3]


def test_a_teacher_of_one_layer_has_a_ladder_too(tmp_path):
    folder = str(make_folder(tmp_path / "bert", "bert", layers=1))
    request = Request(folder, queries=make_texts(50, 9, seed=1), size="auto")
    candidates = list_candidates(request, open_job_teacher(request))
    assert [candidate.name for candidate in candidates if not candidate.instead_of] == ["static", "1 layer"]


def test_a_wider_ladder_names_minutes_that_are_enough(tmp_path):
    """Two rounds were chosen for one student: 24 of 30 minutes are for training, a quarter of them for the first round of four."""
    with Job(tmp_path).claim({}):
        job = Job(tmp_path)
    ladder = [Candidate(f"{count} layers", StudentFromTeacher(count)) for count in range(1, 5)]
    rate = Rate(texts=640, steps=40, training=100.0, evaluation=20.0)  # 2 minutes at least
    job.write("rates", {candidate.name: asdict(rate) for candidate in ladder})
    assert [choose_rounds(job, minutes, {"1 layers": rate}) for minutes in (24, 7.9, 8)] == [2, 1, 2]  # nothing is trained yet
    job.write("lengths", {"students/first/1-layers": [1, 40]})
    assert choose_rounds(job, 6, {candidate.name: rate for candidate in ladder}) == 2
    request = Request("a teacher", queries=["a"], minutes=30.0, out=tmp_path)
    with pytest.raises(BadInput, match="minutes: 30: too short, even a little training takes 40 minutes"):
        refuse_short_share(request, job, ladder, share=1.5, first=True)
    refuse_short_share(replace(request, minutes=40.0), job, ladder, share=2.0, first=True)
    refuse_short_share(request, job, ladder[:1], share=0.1, first=True)  # its length is chosen
    with pytest.raises(BadInput, match="minutes: 30: too short"):
        refuse_short_share(request, job, ladder[:1], share=0.1, first=False)


def test_rows_of_other_architectures_are_not_made_narrower(tmp_path):
    folder = str(make_folder(tmp_path / "mpnet", "mpnet"))
    request = Request(folder, queries=make_texts(50, 9, seed=1))
    names = [candidate.name for candidate in list_candidates(request, open_job_teacher(request))]
    assert "1 layer, fewer tokens" in names and not any("narrow" in name or "smallest" in name for name in names)


def test_students_of_a_smaller_table_are_tried_where_the_whole_one_is_too_large():
    spec = StudentFromTeacher(2)
    whole, pruned, narrow = Candidate("whole", spec), Candidate("pruned", spec, ("whole",)), Candidate("narrow", spec, ("whole",))
    smallest = Candidate("smallest", spec, ("whole", "pruned", "narrow"))
    ladder, sizes = [smallest, pruned, narrow, whole], {"whole": 62.0, "pruned": 40.0, "narrow": 38.0, "smallest": 25.0}
    costs = {name: Cost(4.0, size) for name, size in sizes.items()}
    assert choose_affordable(ladder, costs, Limits(max_mb=30)) == [smallest]
    assert choose_affordable(ladder, costs, Limits(max_mb=39)) == [narrow]
    assert choose_affordable(ladder, costs, Limits(max_mb=50)) == [pruned, narrow]
    assert choose_affordable(ladder, costs, Limits(max_mb=70)) == choose_affordable(ladder, costs, Limits()) == [whole]


def test_limits_that_no_student_meets_are_refused_before_any_is_trained(tmp_path, teacher_folder):
    queries = make_texts(100, 9, seed=1)
    with pytest.raises(BadInput, match=r"max_ms, max_mb: no student is within both: the fastest takes \d+\.\d\d ms"):
        distill.frontier(str(teacher_folder), queries, out=str(tmp_path / "out"), minutes=MINUTES, max_ms=1e-4)
    assert not (tmp_path / "out" / "students").exists()


@pytest.mark.parametrize(
    ("option", "value", "fault"),
    [("max_ms", 0, "max_ms: 0: must be above 0"), ("max_mb", -1, "max_mb: -1"), ("at_least", 1.5, "at_least: 1.5: a share")],
)
def test_odd_limits_are_refused(tmp_path, teacher_folder, option, value, fault):
    with pytest.raises(BadInput, match=fault):
        distill.frontier(str(teacher_folder), make_texts(20, 9, seed=1), out=str(tmp_path / "out"), **{option: value})
    assert not (tmp_path / "out").exists()


def test_a_folder_of_shrink_is_no_frontier(tmp_path, teacher_folder, capsys):
    (tmp_path / "q.txt").write_text("\n".join(make_texts(100, 9, seed=1)))
    with Job(tmp_path / "run").claim(Request(str(teacher_folder), str(tmp_path / "q.txt"), size=2).describe()):
        pass
    assert run_verb("frontier", "--teacher", teacher_folder, "--queries", tmp_path / "q.txt", "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert error.startswith("distill frontier: ") and "made from other inputs: size was" in error and error.count("\n") == 1


def test_stopped_it_goes_on_with_what_was_done(tmp_path, teacher_folder, monkeypatch):
    """Stopped while it trains its second student; kills of a single training are in the tests of shrink and train."""
    monkeypatch.setattr("distill.shrinking.ladder.MOST_LAYERS", 1)
    given = {"teacher": str(teacher_folder), "queries": make_texts(120, 9, seed=1), "minutes": MINUTES, "out": str(tmp_path / "out")}

    def train_one(*args, **options):
        if (tmp_path / "out" / "students").exists():
            raise KeyboardInterrupt
        return distill.train(*args, **options)

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr("distill.shrinking.frontier.train", train_one)
        distill.frontier(**given)
    decided = json.loads((tmp_path / "out" / "shrink.json").read_text())["decisions"]
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "students" / "first" / "static").rglob("*.safetensors")}
    outcome = distill.frontier(**given)
    assert trained and all(path.stat().st_mtime_ns == written for path, written in trained.items())
    at_the_end = json.loads((tmp_path / "out" / "shrink.json").read_text())["decisions"]
    assert at_the_end["costs"] == decided["costs"] and at_the_end["rates"] == decided["rates"]
    assert all(at_the_end["lengths"][name] == length for name, length in decided["lengths"].items())
    assert {entry.name for entry in outcome.entries} <= {"static", "1 layer"}


def test_size_auto_of_shrink_is_the_recommended_student_which_the_next_month_continues(tmp_path, teacher_folder, monkeypatch):
    monkeypatch.setattr("distill.shrinking.ladder.MOST_LAYERS", 1)
    documents = make_texts(20, 25, seed=2)
    run = distill.shrink(
        str(teacher_folder), make_texts(150, 9, seed=1), documents, out=str(tmp_path / "june"), size="auto", minutes=MINUTES
    )
    show(run)  # as the command line does
    record = json.loads((tmp_path / "june" / "frontier.json").read_text())
    assert run.path.relative_to(tmp_path / "june") == Path(next(s["run"] for s in record["students"] if s["name"] == record["recommended"]))
    assert (run.path / "report.html").exists() and (run.path / "export" / "student").exists()
    july = distill.shrink(queries=make_texts(100, 15, seed=11), continue_from=str(run.path), out=str(tmp_path / "july"), minutes=MINUTES)
    assert july.student.parameter_count() == run.student.parameter_count()
    moved = run.path.rename(tmp_path / "moved")
    with pytest.raises(BadInput, match="its link to the texts of its job leads nowhere: move the whole folder"):
        distill.shrink(queries=make_texts(20, 9, seed=3), continue_from=str(moved), out=str(tmp_path / "august"), minutes=MINUTES)
