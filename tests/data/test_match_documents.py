"""Documents that are learnt as queries are: their vectors are those of the store, and other measured queries are left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from collections_of_words import write_collection
from conftest import make_teacher

from distill.data.datamodule import RetrievalData
from distill.records import BadInput
from distill.teachers.encode import encode
from distill.texts.sources import MsMarcoTsv


def open_data(source_root: Path, store: Path, **options: object) -> RetrievalData:
    data = RetrievalData(MsMarcoTsv(str(source_root)), str(store), **options)  # type: ignore[arg-type]
    data.setup("fit")
    return data


def test_an_epoch_draws_documents_whose_vectors_are_stored(source_root, store_folder):
    data = open_data(source_root, store_folder, match_documents=0.25)
    queries, documents = len(data.source.queries("train")), data.source.documents()
    assert [len(texts) for texts, _ in data.train_sets] == [queries, len(documents)]
    assert data.training_queries.count_draws(data.query_shares, data.query_files)[1] == (len(documents), round(0.25 * queries))
    rows = np.arange(queries, queries + len(documents))
    assert data.query_texts(rows) == list(documents)
    ids = data.store.documents.ids
    np.testing.assert_array_equal(data.teacher.queries.take(rows), data.store.documents.take(ids.rows(list(documents.ids))))


def test_what_is_measured_is_not_learnt(source_root, store_folder, tmp_path):
    write_collection(tmp_path / "suite" / "north", (3, 7), seed=0)
    known = MsMarcoTsv(str(source_root)).documents()
    path = tmp_path / "suite" / "north" / "queries.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(
        "\n".join(json.dumps({**line, "text": known[row].upper() if row < 3 else line["text"]}) for row, line in enumerate(lines))
    )
    data = open_data(source_root, store_folder, match_documents=1.0, dev_suite=[str(tmp_path / "suite")])
    learnt = {text.lower() for text in data.train_sets[1].texts}
    assert not learnt & {known[row].lower() for row in range(3)} and known[10].lower() in learnt


def test_teachers_that_embed_documents_otherwise_are_refused(source_root, store_folder, tmp_path):
    with pytest.raises(BadInput, match=r"have no candidates: leave data\.candidates out"):
        open_data(source_root, store_folder, match_documents=1.0, candidates=2)
    with pytest.raises(BadInput, match=r"data\.match_documents: -1: a share is 0 or more"):
        open_data(source_root, store_folder, match_documents=-1)
    teacher = make_teacher(tmp_path / "teacher")
    source = MsMarcoTsv(str(source_root))
    encode(str(teacher), source, str(tmp_path / "prompted"), prompts={"query": "", "document": "a "})
    with pytest.raises(BadInput, match="embeds documents with a prompt or a tower of their own"):
        open_data(source_root, tmp_path / "prompted", match_documents=1.0)
    with pytest.raises(BadInput, match="embeds documents with a prompt or a tower of their own"):
        open_data(source_root, store_folder, match_documents=1.0, teachers={"other": str(tmp_path / "prompted")})
    encode(lambda texts: np.ones((len(texts), 32), np.float32), source, str(tmp_path / "function"), name="ones")
    with pytest.raises(BadInput, match="whether it embeds documents as queries cannot be seen"):
        open_data(source_root, tmp_path / "function", match_documents=1.0)
