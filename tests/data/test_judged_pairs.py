"""Which queries, candidates and documents a teacher is trained and measured on."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distill.data.judged_pairs import PairsData
from distill.encoders.folder import load_encoder
from distill.records import BadInput
from distill.teachers.negatives import RandomNegatives
from distill.texts.sources import MsMarcoTsv


class Reranks:
    dev_measure = "rerank"


class Searches:
    dev_measure = "search"


def data(root: Path, **settings) -> PairsData:
    made = PairsData(MsMarcoTsv(str(root)), RandomNegatives(), **settings)
    made.setup("fit")
    return made


@pytest.fixture
def copied(source_root, tmp_path) -> Path:
    """The small world with judgments of its own: dev0, dev2 and dev5 ask for d1, d4 and d9."""
    for path in source_root.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "qrels.dev.tsv").write_text("dev5\t0\td9\t1\ndev0\t0\td1\t1\ndev2\t0\td4\t1\ndev2\t0\td5\t0\n")
    return tmp_path


def test_only_judged_dev_queries_are_measured(copied):
    assert list(data(copied).dev_queries.ids) == ["dev0", "dev2", "dev5"]


def test_a_small_corpus_is_searched_whole_and_a_large_one_in_part(copied):
    made = data(copied, dev_documents=60)
    made.connect(Searches)
    assert made.dev_corpus.tolist() == list(range(60)) and made.dev_candidates.shape == (3, 0)
    made = data(copied, dev_documents=12)
    made.connect(Searches)
    assert len(made.dev_corpus) == 12 and {1, 4, 5, 9} <= set(made.dev_corpus.tolist())
    assert made.dev_corpus.tolist() == sorted(set(made.dev_corpus.tolist()))
    made = data(copied, dev_documents=2)
    made.connect(Searches)
    assert made.dev_corpus.tolist() == [1, 4, 5, 9]  # what is judged is never left out


def test_a_batch_knows_every_judged_document_of_its_queries(copied, teacher_folder):
    """In any degree, so that a loss over the batch's documents takes none of them for a negative."""
    made, encoder = data(copied, batch_size=8), load_encoder(str(teacher_folder))
    teacher = SimpleNamespace(
        training_batch=lambda queries, documents, rows, tokens: rows, reader=lambda role: encoder, dev_measure="search"
    )
    made.connect(teacher)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))))
    device = SimpleNamespace(root_device=torch.device("cpu"))
    made.trainer = SimpleNamespace(fit_loop=loop, global_rank=0, world_size=1, strategy=device)
    judged, seen = made.source.qrels("train").judgments, set()
    for rows in made.train_dataloader():
        for query, relevant, documents in zip(rows.queries, rows.relevant, rows.documents, strict=True):
            id_ = made.train_queries.ids[query]
            wanted = {document for document, grade in judged[id_].items() if grade > 0}
            assert {made.corpus[row] for row in relevant if row >= 0} == wanted and made.corpus[documents[0]] in wanted
            seen.add(id_)
    assert len(seen) > 80


def test_another_teacher_reads_the_documents_with_its_own_tokenizer(copied, teacher_folder):
    made = data(copied)
    for longest in (32, 5):
        encoder = load_encoder(str(teacher_folder), max_length=longest)
        made.connect(SimpleNamespace(reader=lambda role, encoder=encoder: encoder, dev_measure="search"))
        assert made.document_tokens is made.document_tokens
        assert made.document_tokens.ids(0).tolist() == encoder.token_ids(made.source.documents().read([0]), "document")[0]


def test_what_a_run_is_made_from_is_in_its_fingerprints(copied, store_folder, tmp_path):
    (tmp_path / "run.trec").write_text("dev0 Q0 d1 1 1 x\n")
    made = [data(copied), data(copied, first_stage=str(store_folder)), data(copied, first_stage=str(tmp_path / "run.trec"))]
    found = [one.fingerprints().get("first_stage") for one in made]
    assert found[0] is None and len(set(found)) == 3
    (copied / "queries.dev.tsv").write_text((copied / "queries.dev.tsv").read_text().replace("dev0\t", "dev0\tnew "))
    assert data(copied).fingerprints()["dev"] != made[0].fingerprints()["dev"]


@pytest.mark.parametrize(
    ("judgments", "words"),
    [
        (("train", "train0\t0\tgone\t1\n"), "none of its documents is known: 'gone' is judged"),
        (("train", "train0\t0\td1\t0\n"), "no query of it has a relevant document"),
        (("train", None), "the split 'train' has no judgments"),
    ],
    ids=str,
)
def test_labels_that_teach_nothing_are_refused(judgments, words, copied):
    split, text = judgments
    path = copied / f"qrels.{split}.tsv"
    path.write_text(text) if text else path.unlink()
    with pytest.raises(BadInput, match=words):
        data(copied)


def test_a_first_stage_is_asked_for_where_it_is_needed(copied):
    with pytest.raises(BadInput, match=r"data\.first_stage: a cross encoder re-ranks"):
        data(copied).connect(Reranks)
