"""No query is learnt that a student or a teacher is measured on, however it is punctuated."""

from pathlib import Path
from shutil import copytree

import pytest
from collections_of_words import write_collection

from distill.data.datamodule import RetrievalData
from distill.data.judged_pairs import PairsData
from distill.shrinking.splits import Pool
from distill.teachers.encode import encode
from distill.teachers.negatives import RandomNegatives
from distill.texts.sources import MsMarcoTsv
from distill.texts.suite import open_collections
from distill.texts.texts import Texts


def punctuate(text: str) -> str:
    return f"{text.capitalize().replace(' ', ', ')}?!"


@pytest.fixture
def leaky(source_root: Path, tmp_path: Path) -> Path:
    """The small world; among its train queries is one of dev, and one of the collection `suite/north`."""
    root = Path(copytree(source_root, tmp_path / "texts"))
    write_collection(tmp_path / "suite" / "north", (3, 7), seed=0)
    north = open_collections(tmp_path / "suite")["north"]
    asked = {"dev": MsMarcoTsv(str(root)).queries("dev")[0], "north": north.queries("test")[0]}
    for name, text in asked.items():
        with open(root / "queries.train.tsv", "a") as queries, open(root / "qrels.train.tsv", "a") as qrels:
            queries.write(f"as-{name}\t{punctuate(text)}\n")
            qrels.write(f"as-{name}\t0\td1\t1\n")
    extra = {**{name: punctuate(text) for name, text in asked.items()}, "own": "nobody asks this"}
    (tmp_path / "extra.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in extra.items()))
    return root


def test_a_student_learns_none(leaky, teacher_folder, tmp_path):
    source, extra, store = MsMarcoTsv(str(leaky)), str(tmp_path / "extra.tsv"), str(tmp_path / "store")
    encode(str(teacher_folder), source, store, queries=[extra], precision="fp32")
    for suite, left_out in (([], {"as-dev"}), ([str(tmp_path / "suite")], {"as-dev", "as-north"})):
        data = RetrievalData(source, store, queries=[extra], dev_suite=suite)
        data.setup("fit")
        learnt = data.training_queries
        assert {"as-dev", "as-north"} - set(learnt.split_ids()) == left_out
        assert learnt.removed == source.removed_from_train + len(left_out)
        assert {"dev", "north"} - set(data.train_sets[1].texts.ids) == {name.removeprefix("as-") for name in left_out}


def test_a_teacher_learns_none(leaky):
    data = PairsData(MsMarcoTsv(str(leaky)), RandomNegatives())
    data.setup("fit")
    assert "as-dev" not in data.train_queries.ids and "as-north" in data.train_queries.ids


def test_a_job_learns_none():
    measured = Texts.from_lists(["m"], ["is the Rhine long"])
    pool = Pool([measured])
    given = ["Is the Rhine long?", "how deep is it", "How deep is it?", "how deep, is it"]
    assert pool.add(Texts.from_lists(list("abcd"), given)) == 1
    assert (pool.texts, pool.removed) == (["how deep is it"], 3)
