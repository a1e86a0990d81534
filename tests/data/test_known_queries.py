"""What a training says of its queries, and the warning about queries that are longer or unlike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.data.datamodule import RetrievalData
from distill.data.known_queries import KnownQueries, find_nearest, load_known_queries, sample_known_queries, warn_of_unknown
from distill.evaluation.evaluate import evaluate_run
from distill.records import BadInput
from distill.teachers.encode import encode
from distill.texts.sources import MsMarcoTsv
from distill.training.run_folder import RunFolder
from distill.vectors.store import TeacherStore

KNOWN = KnownQueries(longest=3, least=0.9, vectors=torch.eye(2))


def test_queries_are_compared_by_hand():
    queries = ["one two", "one two three", "one two three four", "one"]
    vectors = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.95, 0.05]])  # cosines 1, 1, .71, .999
    assert KNOWN.compare(queries, vectors) == {"longest_known_words": 3, "longer": 0.25, "unlike": 0.25}


def test_many_queries_are_compared_a_part_at_a_time(monkeypatch):
    vectors = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    known = torch.nn.functional.normalize(vectors[:5], dim=-1)
    at_once = find_nearest(vectors, known)
    monkeypatch.setattr("distill.data.known_queries.AT_ONCE", 6)
    assert torch.allclose(find_nearest(vectors, known), at_once) and torch.allclose(at_once[:5], torch.ones(5))


def test_a_file_keeps_it(tmp_path: Path):
    KNOWN.save(tmp_path / "known.npz")
    loaded = load_known_queries(tmp_path / "known.npz")
    assert loaded is not None and (loaded.longest, loaded.least) == (3, 0.9) and torch.equal(loaded.vectors, KNOWN.vectors)
    assert load_known_queries(tmp_path / "other.npz") is None
    np.savez(tmp_path / "odd.npz", other=np.zeros(2))
    with pytest.raises(BadInput, match=r"odd\.npz: not what training queries were like"):
        load_known_queries(tmp_path / "odd.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "known.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"known\.npz: "):
        load_known_queries(tmp_path / "known.npz")


def test_the_training_queries_are_sampled(source_root: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch):
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder))
    data.setup("fit")
    known = sample_known_queries(data)
    texts = list(data.source.queries("train"))
    assert known.longest == int(np.percentile([len(text.split()) for text in texts], 99, method="inverted_cdf"))
    assert len(known.vectors) == len(data.training_queries)
    assert torch.allclose(known.vectors.norm(dim=1), torch.ones(len(known.vectors)))
    own = torch.from_numpy(data.teacher.queries.take(np.arange(len(texts)))).float()
    assert known.compare(texts, own)["unlike"] == 0.0  # each of them is its own nearest
    dev = torch.nn.functional.normalize(torch.from_numpy(data.dev_vectors.take(np.arange(len(data.dev_texts)))).float(), dim=1)
    assert known.least == pytest.approx(np.percentile((dev @ known.vectors.T).amax(1).numpy(), 2))
    monkeypatch.setattr("distill.data.known_queries.SAMPLE", 10)
    assert len(sample_known_queries(data).vectors) == 10


@pytest.mark.parametrize(("share", "longest"), [(0.02, 9), (2.0, 40)])
def test_texts_count_as_often_as_an_epoch_draws_them(source_root, store_folder, teacher_folder, tmp_path, monkeypatch, share, longest):
    """Of texts of 40 words an epoch draws two, or all, beside 96 queries of nine words at most."""
    lines = [json.dumps({"_id": f"long{row}", "text": " ".join([f"word{row}"] * 40)}) for row in range(200)]
    (tmp_path / "long.jsonl").write_text("\n".join(lines))
    source, store = MsMarcoTsv(str(source_root)), str(shutil.copytree(store_folder, tmp_path / "store", symlinks=True))
    encode(str(teacher_folder), source, store, queries=[str(tmp_path / "long.jsonl")])
    data = RetrievalData(source, store, queries={str(tmp_path / "long.jsonl"): share})
    data.setup("fit")
    monkeypatch.setattr("distill.data.known_queries.LONGEST_PERCENTILE", 95)
    assert sample_known_queries(data).longest == longest


def test_warnings_name_what_is_unknown(caplog: pytest.LogCaptureFixture):
    warn_of_unknown("test", {"longest_known_words": 9, "longer": 0.05, "unlike": 0.1})
    assert not caplog.messages
    warn_of_unknown("test", {"longest_known_words": 9, "longer": 0.5, "unlike": 0.3})
    assert "50% of the queries are longer than 99% of those it was trained on, 9 words" in caplog.messages[0]
    assert "30% of the queries are unlike those that the student was trained on" in caplog.messages[1]


def test_an_evaluation_says_how_familiar_its_queries_are(run_folder: Path, store_folder: Path, source_root: Path, tmp_path: Path, caplog):
    """Measured as if the run had known queries of three words at most, and near one of its own only."""
    run, source = Path(shutil.copytree(run_folder, tmp_path / "run")), MsMarcoTsv(str(source_root))
    store, texts = TeacherStore(store_folder), source.queries("test")
    vectors = torch.from_numpy(store.queries("test", texts.fingerprints("query")).take(np.arange(len(texts)))).float()
    near = vectors[:1] / vectors[:1].norm()
    cosines = (vectors / vectors.norm(dim=1, keepdim=True)) @ near[0]
    KnownQueries(3, float(cosines.median()) + 1e-3, near).save(RunFolder(run).known_queries)
    familiarity = evaluate_run(run, split="test", out=tmp_path / "results.json").values["familiarity"]
    longer = np.mean([len(text.split()) > 3 for text in texts])
    unlike = (cosines < cosines.median() + 1e-3).float().mean()
    assert familiarity == {"longest_known_words": 3, "longer": pytest.approx(longer), "unlike": pytest.approx(float(unlike))}
    assert f"{unlike:.0%} of the queries are unlike those that the student was trained on" in caplog.text
