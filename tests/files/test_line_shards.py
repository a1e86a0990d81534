import json

import pytest

from distill.files.fingerprints import file_fingerprint
from distill.files.line_shards import LineShardWriter
from distill.records import BadInput

PLAN = {"seed": 0, "rows": [1, 2]}


def writer_in(folder, plan=PLAN):
    return LineShardWriter(folder, "numbers", plan, 3, "numbers")


def lines_of(writer):
    return [line for _, lines in writer.read_shards() for line in lines]


def finish(writer):
    for shard in writer.missing_shards():
        writer.write_shard(shard, [f"{shard}\n", f"{shard}.5\n"])
    writer.write_file(lines_of(writer))
    writer.finish({"lines": 6})


def test_shards_become_one_file(tmp_path):
    writer = writer_in(tmp_path / "out")
    assert writer.missing_shards() == [0, 1, 2] and not writer.finished
    with writer.claim():
        finish(writer)
    assert (tmp_path / "out" / "numbers.jsonl").read_text() == "0\n0.5\n1\n1.5\n2\n2.5\n"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == {**PLAN, "checksum": file_fingerprint(writer.file), "lines": 6}
    assert writer.finished and writer.missing_shards() == []
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plan.json", "numbers.jsonl", "manifest.json", ".lock"}


def test_it_goes_on_with_the_shards_that_are_missing(tmp_path):
    first = writer_in(tmp_path)
    with first.claim():
        first.write_shard(1, ["kept\n"])
        with pytest.raises(RuntimeError):
            first.write_shard(2, iter(lambda: (_ for _ in ()).throw(RuntimeError("killed")), None))
    second = writer_in(tmp_path)
    assert second.missing_shards() == [0, 2]
    with second.claim():
        finish(second)
    assert second.file.read_text() == "0\n0.5\nkept\n2\n2.5\n"


def test_a_plan_of_release_0_1_goes_on_though_it_does_not_name_the_teacher(tmp_path):
    with writer_in(tmp_path).claim():
        pass
    now = {**PLAN, "teacher": "all-MiniLM-L6-v2", "documents": "d0f1"}
    assert writer_in(tmp_path, now).missing_shards() == [0, 1, 2]
    with pytest.raises(BadInput, match="seed"):
        writer_in(tmp_path, now | {"seed": 1})
    with pytest.raises(BadInput, match="pages"):
        writer_in(tmp_path, now | {"pages": 7})


def test_a_teacher_that_a_plan_names_is_compared(tmp_path):
    with writer_in(tmp_path, PLAN | {"teacher": "all-MiniLM-L6-v2"}).claim():
        pass
    with pytest.raises(BadInput, match="teacher"):
        writer_in(tmp_path, PLAN | {"teacher": "all-mpnet-base-v2"})


def test_shards_that_a_kill_left_beside_a_complete_file_are_removed(tmp_path):
    writer = writer_in(tmp_path)
    with writer.claim():
        finish(writer)
    writer.shard_path(2).write_text("2\n")
    writer_in(tmp_path)
    assert not writer.shard_path(2).exists()


def test_two_jobs_exclude_each_other_but_ranks_do_not(tmp_path):
    leader, other = writer_in(tmp_path), writer_in(tmp_path)
    with leader.claim(), other.claim(is_leader=False):
        with pytest.raises(BadInput, match="another process is writing it"):
            other.claim()
        other.write_shard(1, ["1\n"])
    with other.claim():
        pass


def test_another_plan_and_other_files_are_refused(tmp_path):
    with writer_in(tmp_path / "out").claim():
        pass
    with pytest.raises(BadInput, match=r"out: made from other inputs \(seed was 0, now 1\): choose another --out or delete it"):
        writer_in(tmp_path / "out", {**PLAN, "seed": 1})
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="not a folder of numbers and not empty: choose another --out"):
        writer_in(tmp_path)
