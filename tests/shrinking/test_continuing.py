"""The next month: an earlier student goes on with new queries."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import commands
import numpy as np
import pytest
from commands import train_arguments
from shrink_world import MINUTES, make_texts, write_beir

import distill
from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher
from distill.evaluation.results import Results
from distill.export.model_card import render_card
from distill.records import BadInput
from distill.report.evidence import RunEvidence
from distill.report.report import report
from distill.shrinking.advice import list_advice, name_larger
from distill.shrinking.continuing import choose_spec, continue_texts, earlier_file, earlier_name
from distill.shrinking.replay import choose_shares
from distill.shrinking.request import Job, Request
from distill.shrinking.shrink import advise, list_changes, open_job_texts
from distill.shrinking.texts import prepare_texts
from distill.training.run_folder import EARLIER_IS_KEPT


@pytest.fixture(scope="module")
def june(tmp_path_factory, teacher_folder) -> distill.Run:
    folder = tmp_path_factory.mktemp("june")
    documents = folder / "docs.jsonl"
    rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(make_texts(20, 25, seed=2))]
    documents.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return distill.shrink(
        str(teacher_folder), queries=make_texts(300, 9, seed=1), documents=str(documents), out=str(folder / "run"), minutes=MINUTES
    )


@pytest.fixture(scope="module")
def july(june) -> distill.Run:
    new = [*make_texts(100, 15, seed=11), *list(open_job_texts(june).source.queries("train"))[:7]]
    return distill.shrink(continue_from=str(june.path), queries=new, out=str(june.path.parent / "july"), minutes=MINUTES)


def test_old_queries_are_replayed_and_none_is_learnt_and_measured_on(june, july):
    texts, old = open_job_texts(july), open_job_texts(june)
    extra = {path.stem: distill.Texts.open(path) for path in texts.extra}
    assert list(extra["train_1"]) == list(old.source.queries("train")) and set(extra) == {"train_1", "crops", "pieces", "noise"}
    trained = [texts.source.queries("train"), *extra.values()]
    for name in ("dev", "holdout", "dev_1", "holdout_1"):
        assert not texts.source.queries(name).leak_mask(trained).any()
    assert texts.summary["removed"] >= 7  # those of June's training among the new ones


def test_nothing_is_embedded_twice(june, july):
    for name in ("documents", "queries-train_1", "queries-holdout_1", "queries-crops"):
        assert (july.path / "store" / name).is_symlink()
    assert not (july.path / "store" / "queries-train").is_symlink()


def test_the_earlier_student_is_judged_on_the_queries_that_choose_the_epoch(june, july, teacher_folder):
    """Both students meet on dev; on the holdout, which must not choose anything, they are only compared."""
    dev = open_job_texts(july).source.queries("dev+dev_1")
    documents = distill.TeacherStore(june.path / "store").documents[:].astype(np.float32)
    vectors = [distill.load_encoder(str(folder)).encode_query(list(dev)) for folder in (teacher_folder, june.path / "student")]
    teacher, student = (np.argsort(-(part @ documents.T), axis=1)[:, :10] for part in vectors)
    shared = [len(set(one) & set(other)) / 10 for one, other in zip(teacher, student, strict=True)]
    assert Job(july.path).read("before") == pytest.approx(np.mean(shared), abs=0.02)  # the teacher's stored vectors are halves


def test_both_students_are_measured_on_old_and_new_queries(july):
    new, old = list_changes(july)
    assert re.fullmatch(r"new queries: overlap@10 0\.\d{3} before, 0\.\d{3} now \([+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\]\)", new)
    assert old.startswith("queries of holdout_1: ")


def test_the_earlier_queries_are_measured_with_both_students_on_one_page(june, july, tmp_path):
    later = distill.Run(shutil.copytree(july.path, tmp_path / "july", symlinks=True))
    agreement = later.evaluate("holdout_1").agreement
    earlier = june.results.agreement
    assert (agreement["split"], agreement["queries"]) == ("holdout_1", earlier["queries"]) and earlier["queries"] > 20
    page = report([str(june.path), str(later.path)], out=str(tmp_path / "both.html")).path
    assert page.exists()
    july_alone = shutil.copytree(july.path, tmp_path / "alone", symlinks=True)
    with pytest.raises(BadInput, match="measured on other queries"):
        report([str(june.path), str(july_alone)], out=str(tmp_path / "no.html"))


def test_a_third_month_goes_on_with_both(july):
    august = distill.shrink(
        continue_from=str(july.path), queries=make_texts(60, 9, seed=21), out=str(july.path.parent / "august"), minutes=MINUTES
    )
    assert {path.stem for path in open_job_texts(august).extra} == {"train_1", "train_2", "crops", "pieces", "noise"}
    shares = august.folder.settings()["data"]["queries"]
    new = open_job_texts(august).summary["train"]
    drawn = {Path(path).stem: share * new for path, share in shares.items()}
    assert drawn["train_1"] + drawn["train_2"] <= 8.01 * new
    assert drawn["crops"] + drawn["pieces"] == pytest.approx(8 * new)
    assert len(list_changes(august)) == 3


def test_no_query_that_an_earlier_student_knows_as_noise_is_measured_on(july, tmp_path):
    known = list(distill.Texts.open(july.path / "texts" / "noise.jsonl"))
    request = Request(continue_from=str(july.path), queries=[*make_texts(100, 15, seed=41), *known[:50]])
    texts = continue_texts(request, july, tmp_path / "texts")
    assert not {query for split in ("train", "dev", "holdout") for query in texts.source.queries(split)} & set(known)
    assert list(distill.Texts.open(tmp_path / "texts" / "seen" / "0.jsonl")) == known  # for the month after


def test_the_queries_of_a_judged_split_called_holdout_stay_those_of_the_verdict(tmp_path):
    source = write_beir(tmp_path, {"holdout": range(30)})
    old = prepare_texts(Request("a teacher", documents=str(source)), tmp_path / "june" / "texts")
    assert old.summary["evaluated_on"] == "holdout"
    june = SimpleNamespace(path=tmp_path / "june", folder=SimpleNamespace(data=lambda: SimpleNamespace(source=old.source)))
    request = Request(continue_from=str(june.path), queries=make_texts(100, 15, seed=11))
    july = continue_texts(request, june, tmp_path / "july" / "texts")
    assert july.summary["evaluated_on"] == "holdout_1"
    assert list(july.source.queries("holdout_1")) == list(old.source.queries("holdout")) and july.source.qrels("holdout_1")


def test_a_student_that_became_worse_is_not_kept(june, tmp_path):
    """The job is told that the earlier student was perfect: no training can reach that."""
    copy, out = tmp_path / "june", tmp_path / "july"
    shutil.copytree(june.path, copy, symlinks=True)
    given = {"continue_from": str(copy), "queries": make_texts(100, 15, seed=11), "out": str(out), "minutes": 1e-6}
    with pytest.raises(BadInput, match="minutes: 1e-06: too short, even a little training takes"):
        distill.shrink(**given)
    Job(out).write("before", 1.0)
    run = distill.shrink(**{**given, "minutes": MINUTES})
    assert run.folder.student.exists() and Job(out).read("kept") == "before"
    assert 0 < Job(out).read("after") < 1
    assert not any("--size" in line for line in advise(run, open_job_texts(run)))  # which a job that goes on does not take
    earlier, kept = (distill.load_encoder(str(folder / "student")).fingerprint() for folder in (copy, out))
    assert earlier == kept
    assert (out / "known_queries.npz").read_bytes() == (copy / "known_queries.npz").read_bytes()
    # the new queries are none that it knows, though some were held out
    assert distill.drift(out, ["what is a river"]).values["split"] == "holdout_1"


def test_no_new_query_with_the_words_of_a_crop_or_a_piece_is_measured_on(june, tmp_path):
    """They are learnt from again: such a query is left out, whatever the order of its words."""
    cut = [text for name in ("crops", "pieces") for text in list(distill.Texts.open(june.path / "texts" / f"{name}.jsonl"))[:20]]
    reordered = [" ".join(reversed(text.upper().split())) + "?" for text in cut]
    request = Request(continue_from=str(june.path), queries=[*make_texts(100, 15, seed=11), *reordered])
    texts = continue_texts(request, june, tmp_path / "texts")
    asked = {query for split in ("train", "dev", "holdout") for query in texts.source.queries(split)}
    assert not asked & set(reordered) and texts.summary["removed"] >= len(set(reordered))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queries": None}, "give the new queries"),
        ({"size": 3}, "size is that of the earlier job"),
        ({"continue_from": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_bad_input(june, tmp_path, given, message):
    arguments = {"continue_from": str(june.path), "queries": make_texts(40, 9, seed=3), "out": str(tmp_path / "run")} | given
    with pytest.raises(BadInput, match=message):
        distill.shrink(**arguments)
    assert not Path(arguments["out"]).exists()


def test_a_job_that_has_not_ended_is_not_gone_on_from(june, tmp_path):
    unfinished = shutil.copytree(june.path, tmp_path / "june", symlinks=True)
    shutil.rmtree(unfinished / "student")
    with pytest.raises(BadInput, match="june: this job of shrink has not ended: run its command again"):
        distill.shrink(continue_from=str(unfinished), queries=make_texts(40, 9, seed=3), out=str(tmp_path / "run"))


def test_names_of_earlier_splits():
    names = {"train": "train_1", "holdout_1": "holdout_2", "dl19": "dl19", "dev_small": "dev_small"}
    assert {name: earlier_name(name) for name in names} == names


def test_a_judged_split_that_is_called_like_train_is_not_learnt_from():
    assert earlier_file("queries.train_small.jsonl") == "queries.train_small.jsonl"
    assert earlier_file("queries.train.jsonl") == "train_1.jsonl" and earlier_file("train_1.jsonl") == "train_2.jsonl"


def test_many_new_queries_need_no_noise(june, tmp_path):
    many = [f"{text} {number}" for number, text in enumerate(make_texts(12_000, 9, seed=31))]
    texts = continue_texts(Request(continue_from=str(june.path), queries=many), june, tmp_path / "texts")
    assert {path.stem for path in texts.extra} == {"train_1", "crops", "pieces"} and texts.summary["noise"] == 0
    assert choose_shares(texts)[str(tmp_path / "texts" / "train_1.jsonl")] < 1


def test_a_student_of_fewer_tokens_and_narrow_rows_goes_on_with_its_own(source_root, store_folder, tmp_path):
    """Also in the third month, when the second month's student was already made of the first one's folder."""
    main, more = commands.distill, ["--trainer.max_epochs", 1]
    june, july = tmp_path / "june", tmp_path / "july"
    smaller = ["--model.student.vocabulary", 64, "--model.student.table_width", 8]
    assert main(*train_arguments(source_root, store_folder, june, *more, *smaller)) == 0
    assert choose_spec(distill.Run(june), str(june / "student")) == StudentFromBackbone(str(june / "student"))
    own = ["--model.student", "StudentFromBackbone", "--model.student.name", june / "student", "--model.start_from", june / "student"]
    arguments = train_arguments(source_root, store_folder, july, *more)
    assert main("train", *own, *arguments[5:]) == 0
    assert choose_spec(distill.Run(july), str(july / "student")) == StudentFromBackbone(str(july / "student"))
    assert load_encoder(str(july / "student")).word_table.weight.shape == (64, 8)


def test_another_student_goes_on_as_it_was_made(run_folder):
    assert choose_spec(distill.Run(run_folder), str(run_folder / "student")) == StudentFromTeacher([0, 3])


def test_a_student_that_became_no_better_is_told_everywhere(june, july, tmp_path):
    """Beside curves and settings of the training that was for nothing."""
    later = distill.Run(shutil.copytree(july.path, tmp_path / "july", symlinks=True))
    for decisions, is_told in (({}, False), ({"kept": "before", "unlearnt": 1}, True)):
        record = json.loads((later.path / "shrink.json").read_text())
        record["decisions"] = {**{k: v for k, v in record["decisions"].items() if k not in ("kept", "unlearnt")}, **decisions}
        (later.path / "shrink.json").write_text(json.dumps(record))
        assert (EARLIER_IS_KEPT in RunEvidence(str(later.path)).warnings) == is_told
        card = render_card(later.folder, later.student, None, "a/teacher")
        assert (EARLIER_IS_KEPT in card) == is_told


def test_the_folder_of_several_students_is_named_as_such(june, tmp_path):
    several = tmp_path / "several"
    several.mkdir()
    shutil.copy(june.path / "shrink.json", several)
    (several / "frontier.json").write_text(
        json.dumps({"recommended": "2 layers", "students": [{"name": "2 layers", "run": "students/2-layers"}]})
    )
    with pytest.raises(BadInput, match="has several students"):
        distill.shrink(continue_from=str(several), queries=make_texts(40, 9, seed=3), out=str(tmp_path / "run"))


def test_known_texts_of_documents_go_on_too(june, tmp_path):
    """Of a job whose vectors were given with a part of the documents."""
    earlier = distill.Run(shutil.copytree(june.path, tmp_path / "june", symlinks=True))
    shutil.copy(june.path / "texts" / "corpus.jsonl", earlier.path / "texts" / "sample.jsonl")
    continue_texts(Request(continue_from=str(earlier.path), queries=make_texts(100, 15, seed=11)), earlier, tmp_path / "texts")
    sample = distill.Texts.open(tmp_path / "texts" / "sample.jsonl", join_title=True)
    assert list(sample) == list(distill.Texts.open(june.path / "texts" / "corpus.jsonl", join_title=True))


def test_what_is_advised_can_be_followed(june, july):
    """A job that goes on takes no --size, and the crops are those of the first job."""
    weak = Results({**july.results.values, "agreement": {**july.results.agreement, "overlap@10": 0.5}}, {})
    texts = open_job_texts(july)
    new, goes_on = (list_advice(texts, [0.5, 0.6], weak, larger=name_larger(None, None, known), goes_on=known) for known in (False, True))
    assert any("--size 4" in line for line in new) and any(line.startswith("few queries") for line in new)
    assert not any("--size" in line or line.startswith("few queries") for line in goes_on)
    assert any(line.endswith("a new job of more layers may find more, with all queries") for line in goes_on)
