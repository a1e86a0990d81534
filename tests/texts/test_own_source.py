"""A source of ten lines outside the package is used in the way in which every source is."""

import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import distill, train_arguments
from families import make_encoder
from own_source import Topics
from test_resume import assert_same, stopped

from distill.files.configs import from_config, to_config
from distill.records import BadInput
from distill.teachers.encode import encode
from distill.texts.qrels import Qrels
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.texts.tokens import load_or_tokenize

QUERIES = {
    "train": ["river", "What  is music", "a garden", "old engine"],
    "dev": ["what is MUSIC", "bread"],
}


class Notes(TextSource):
    def load_documents(self):
        return Texts.from_lists(["d1", "d2", "d3"], ["the old river", "a new garden", ""], titles=["River", "", ""])

    def list_splits(self):
        return list(QUERIES)

    def load_queries(self, split):
        return Texts.from_lists([f"{split}{row}" for row in range(len(QUERIES[split]))], QUERIES[split])

    def load_qrels(self, split):
        return Qrels({"train0": {"d1": 2}, "train1": {"d2": 1}}) if split == "train" else None


class Topic(Notes):
    """A source with a setting of its own, the others passed on."""

    def __init__(self, topic: str, **kwargs):
        super().__init__(**kwargs)
        self.topic = topic


def test_documents_queries_and_judgments():
    source = Notes()
    assert (source.name, str(source), source.splits()) == ("Notes", "Notes", ["train", "dev"])
    assert list(source.documents()) == ["the old river", "a new garden", ""]
    assert source.documents().title(0) == "River"
    assert list(source.queries("dev")) == QUERIES["dev"]
    assert source.queries("dev").name == "queries.dev"
    assert list(source.queries("train+dev").ids) == ["train0", "train2", "train3", "dev0", "dev1"]
    assert source.qrels("dev") is None
    assert source.qrels("train+dev").judgments == {"train0": {"d1": 2}}
    assert source.has_documents()


def test_each_part_is_loaded_once():
    source = Notes()
    assert source.documents() is source.documents()
    source.queries("train+dev")
    source.load_queries = source.load_qrels = lambda split: pytest.fail("loaded again")
    assert len(source.queries("dev")) == 2
    assert source.removed_from_train == 1


def test_train_shares_no_query_with_another_split():
    source = Notes()
    assert list(source.queries("train")) == ["river", "a garden", "old engine"]
    assert source.removed_from_train == 1
    more = Texts.from_lists(["1", "2"], ["Bread", "a new one"], name="more")
    assert list(source.remove_leaked(more)) == ["a new one"]
    assert list(source.remove_leaked(more, ("train", "dev"))) == ["Bread", "a new one"]


def test_a_holdout_is_set_aside():
    source = Notes(holdout=1)
    assert source.splits() == ["train", "dev", "holdout"]
    train, holdout = list(source.queries("train").ids), list(source.queries("holdout").ids)
    assert (len(train), len(holdout)) == (2, 1)
    assert {*train, *holdout} == {"train0", "train2", "train3"}
    judged = {**source.qrels("train").judgments, **source.qrels("holdout").judgments}
    assert judged == {"train0": {"d1": 2}}
    assert list(Notes(holdout=1).queries("holdout").ids) == holdout


def test_messages_name_the_source():
    with pytest.raises(BadInput, match=r"^Notes: no split 'test': there are train, dev$"):
        Notes().queries("test")
    with pytest.raises(BadInput, match=r"^Notes: holdout is -1: it is a number"):
        Notes(holdout=-1)
    with pytest.raises(BadInput, match=r"^Notes: holdout of 3 leaves nothing of 3 train queries"):
        Notes(holdout=3).queries("train")

    class Wrong(Notes):
        def load_qrels(self, split):
            return Qrels({"other": {"d1": 1}}, "labels")

    with pytest.raises(BadInput, match=r"^labels: query 'other' not in the queries of Wrong: the two files must belong together"):
        Wrong().qrels("dev")


def test_a_part_that_is_not_written_is_named():
    class Half(TextSource):
        def load_documents(self):
            return Texts.from_lists(["d"], ["text"])

    with pytest.raises(TypeError, match="list_splits"):
        Half()


def test_a_configuration_describes_it():
    source = Topic("rivers", holdout=2)
    assert source.init_args == {"topic": "rivers", "holdout": 2}
    again = from_config(yaml.safe_load(yaml.safe_dump(to_config(source))))
    assert (type(again), again.topic, again.holdout) == (Topic, "rivers", 2)
    assert list(again.queries("holdout").ids) == list(source.queries("holdout").ids)


def test_its_texts_are_tokenised_and_known_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    encoder = make_encoder("bert", max_length=9)
    tokens = load_or_tokenize(Notes().documents(), encoder, "document")
    assert tokens.ids(0).tolist() == encoder.tokenizer.encode("the old river")
    monkeypatch.setattr(encoder, "token_ids", lambda *_: pytest.fail("tokenised again"))
    np.testing.assert_array_equal(load_or_tokenize(Notes().documents(), encoder, "document").flat, tokens.flat)


def test_it_travels_to_another_process():
    source = Notes(holdout=1)
    ids = list(source.queries("holdout").ids)
    again = pickle.loads(pickle.dumps(source))
    assert list(again.queries("holdout").ids) == ids
    assert again.documents().fingerprint == source.documents().fingerprint


@pytest.mark.slow
def test_a_student_trains_on_it_resumes_and_is_exported(teacher_folder: Path, tmp_path: Path):
    """3 steps an epoch, killed between its two epochs."""
    store = tmp_path / "store"
    encode(teacher=str(teacher_folder), source=Topics(), out=str(store), precision="fp32")
    whole, killed = ([*train_arguments("", store, tmp_path / name)] for name in ("whole", "killed"))
    for arguments in (whole, killed):
        at = arguments.index("--data.source")
        arguments[at : at + 4] = ["--data.source", "own_source.Topics"]
    assert distill(*whole) == 0
    assert stopped(killed, "on_train_epoch_start", 3).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "student").exists()
    assert distill(*killed) == 0
    assert_same(tmp_path / "killed", tmp_path / "whole")
    config = yaml.safe_load((tmp_path / "whole" / "config.yaml").read_text())
    assert config["data"]["source"]["class_path"] == "own_source.Topics"
    assert distill("evaluate", tmp_path / "whole") == 0 == distill("export", tmp_path / "whole")
