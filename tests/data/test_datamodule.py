import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distill.data.datamodule import RetrievalData
from distill.encoders.batching import encode_texts
from distill.encoders.folder import load_encoder
from distill.encoders.towers import Towers
from distill.records import BadInput, Batch, Tokens
from distill.teachers.embedder import encode_set
from distill.teachers.encode import encode
from distill.teachers.local import LocalTeacher
from distill.teachers.open_stored import find_vector_rows, open_evaluation_queries
from distill.texts.sources import MsMarcoTsv, QueryFile
from distill.vectors.store import TeacherStore


@pytest.fixture
def data(source_root, store_folder):
    def of(**settings) -> RetrievalData:
        module = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), **settings)
        module.setup("fit")
        return module

    return of


@pytest.fixture(scope="module")
def teacher(teacher_folder):
    return load_encoder(str(teacher_folder))


@pytest.fixture(scope="module")
def with_extra(tmp_path_factory, source_root, store_folder, teacher):
    """A store that also has the vectors of `extra.tsv`: two new queries around one that dev asks too."""
    root = tmp_path_factory.mktemp("extra")
    asked = MsMarcoTsv(str(source_root)).queries("dev")[3]
    (root / "extra.tsv").write_text(f"e0\tbest bread near the river\ntrain5\t  {asked.upper()}\ne2\thow to find winter music\n")
    shutil.copytree(store_folder, root / "store")
    texts = QueryFile(str(root / "extra.tsv")).queries()
    maker = TeacherStore(root / "store").maker
    encode_set(LocalTeacher(Towers(teacher), "fp32", maker), texts, "query", root / "store" / "queries-extra")
    return root


def wanted_candidates(module: RetrievalData, k: int) -> list[list[int]]:
    """By brute force: the first relevant document of the judgments, then the best others."""
    documents = module.store.documents[:].astype(np.float64)
    rows = []
    for position, query_id in enumerate(module.source.queries("train").ids):
        grades = module.source.qrels("train").judgments[query_id]
        positive = list(module.store.documents.ids).index(max(grades, key=lambda document: grades[document]))
        scores = documents @ module.teacher.queries.take(np.array([position]))[0].astype(np.float64)
        ranked = np.argsort(-scores, kind="stable").tolist()
        rows.append([positive, *(row for row in ranked if row != positive)][:k])
    return rows


# candidates


@pytest.mark.parametrize("k", [1, 2, 5, 60])
def test_the_positive_leads_the_teachers_top(data, k):
    module = data(candidates=k)
    assert module.candidate_rows.tolist() == wanted_candidates(module, k)


def test_no_candidates_unless_asked(data):
    assert data().candidate_rows.shape == (96, 0)


def test_without_judgments_the_teachers_top_alone(data, source_root, tmp_path):
    shutil.copytree(source_root, tmp_path / source_root.name)
    (tmp_path / source_root.name / "qrels.train.tsv").unlink()
    labelled = data(candidates=60)
    unlabelled = RetrievalData(MsMarcoTsv(str(tmp_path / source_root.name)), str(labelled.store_folder), candidates=4)
    unlabelled.setup("fit")
    scores = labelled.teacher.queries.take(np.arange(96)).astype(np.float64) @ labelled.store.documents[:].astype(np.float64).T
    assert unlabelled.candidate_rows.tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :4].tolist()
    assert not unlabelled.labelled


def test_judgments_of_two_splits_whose_queries_share_ids_are_refused(source_root, teacher_folder, tmp_path):
    root, store = tmp_path / source_root.name, tmp_path / "store"
    shutil.copytree(source_root, root)
    (root / "queries.more.tsv").write_text("train0\tsomething else\ntrain1\tand more\n")
    (root / "qrels.more.tsv").write_text("train0 0 d3 2\n")
    encode(str(teacher_folder), MsMarcoTsv(str(root)), str(store))
    both = RetrievalData(MsMarcoTsv(str(root)), str(store), train="train+more", candidates=4)
    with pytest.raises(BadInput, match="id 'train0' is already taken"):
        both.setup("fit")


def test_the_search_is_kept(data, monkeypatch):
    first = data(candidates=3)
    monkeypatch.setattr("distill.teachers.open_stored.search", lambda *_, **__: pytest.fail("searched again"))
    np.testing.assert_array_equal(data(candidates=3).candidate_rows, first.candidate_rows)


def test_more_candidates_than_documents_are_refused(data):
    with pytest.raises(BadInput, match=r"data\.candidates: 61, but the corpus has 60 documents"):
        data(candidates=61)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"candidates": -1}], ids=str)
def test_impossible_numbers_are_refused(data, settings):
    with pytest.raises(BadInput, match="must be at least 1 and candidates"):
        data(**settings)


@pytest.mark.parametrize(
    "judgments, positive",
    [({"d4": 1, "d9": 3, "d2": 3}, 9), ({"elsewhere": 3, "d4": 1}, 4), ({"d4": 0}, None), ({"elsewhere": 3}, None)],
    ids=["highest grade, first of equals", "the best is not in this corpus", "none relevant", "none in this corpus"],
)
def test_the_positive_is_the_best_judged_document_of_the_corpus(judgments, positive, data, source_root, store_folder, tmp_path):
    root = tmp_path / source_root.name
    shutil.copytree(source_root, root)
    others = [line for line in (root / "qrels.train.tsv").read_text().splitlines() if not line.startswith("train7\t")]
    (root / "qrels.train.tsv").write_text("\n".join([*others, *(f"train7\t0\t{d}\t{g}" for d, g in judgments.items())]) + "\n")
    module = RetrievalData(MsMarcoTsv(str(root)), str(store_folder), candidates=3)
    module.setup("fit")
    assert module.labelled == (positive is not None)
    if positive is not None:
        assert module.candidate_rows[7, 0] == positive


# labels


def test_labelled_needs_a_positive_for_every_query(data, source_root, store_folder, tmp_path):
    assert data(candidates=2).labelled
    assert not data().labelled
    root = tmp_path / source_root.name
    shutil.copytree(source_root, root)
    lines = (root / "qrels.train.tsv").read_text().splitlines(keepends=True)
    (root / "qrels.train.tsv").write_text("".join(line for line in lines if not line.startswith("train7\t")))
    module = RetrievalData(MsMarcoTsv(str(root)), str(store_folder), candidates=2)
    module.setup("fit")
    assert not module.labelled
    whole = data(candidates=2)
    scores = module.teacher.queries.take(np.array([7]))[0].astype(np.float64) @ module.store.documents[:].astype(np.float64).T
    assert module.candidate_rows[7].tolist() == np.argsort(-scores, kind="stable")[:2].tolist()
    others = [i for i in range(96) if i != 7]
    np.testing.assert_array_equal(module.candidate_rows[others], whole.candidate_rows[others])


# query files


def test_extra_queries_come_after_the_train_queries_without_those_dev_asks(source_root, with_extra, teacher):
    extra = str(with_extra / "extra.tsv")
    module = RetrievalData(MsMarcoTsv(str(source_root)), str(with_extra / "store"), queries=[extra], candidates=3)
    module.setup("fit")
    assert [texts.name for texts, _ in module.train_sets] == ["train", "extra"]
    assert list(module.train_sets[1][0].ids) == ["e0", "e2"]
    assert len(module.teacher.queries) == 98
    expected = encode_texts(teacher, ["best bread near the river", "how to find winter music"], "query")
    np.testing.assert_allclose(module.teacher.queries.take(np.array([96, 97])), expected, atol=1e-3)
    assert not module.labelled
    documents = module.store.documents[:].astype(np.float64)
    top = np.argsort(-(module.teacher.queries.take(np.array([96, 97])).astype(np.float64) @ documents.T), axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(module.candidate_rows[96:], top)


def test_two_sets_of_one_name_are_refused(source_root, store_folder, tmp_path):
    (tmp_path / "train.tsv").write_text("e0\tsome words\n")
    module = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), queries=[str(tmp_path / "train.tsv")])
    with pytest.raises(BadInput, match="query sets train, train: two of them share a name"):
        module.setup("fit")


def test_a_query_file_without_vectors_is_refused(source_root, store_folder, tmp_path):
    (tmp_path / "fresh.tsv").write_text("e0\tsome words\n")
    module = RetrievalData(MsMarcoTsv(str(source_root)), str(store_folder), queries=[str(tmp_path / "fresh.tsv")])
    with pytest.raises(BadInput, match=r"no vectors of the queries 'fresh' \(there are: dev, test, train\)"):
        module.setup("fit")


def test_a_query_without_a_vector_is_named(source_root, store_folder):
    source = MsMarcoTsv(str(source_root))
    with pytest.raises(BadInput, match=r"no vector of 12 of 12 queries, 'dev0' for one"):
        find_vector_rows(TeacherStore(store_folder).queries("train", source.queries("train").fingerprints("query")), source.queries("dev"))


def test_texts_that_changed_are_refused(source_root, store_folder, tmp_path):
    root = tmp_path / source_root.name
    shutil.copytree(source_root, root)
    with open(root / "queries.dev.tsv", "a") as file:
        file.write("dev99\tone more\n")
    with pytest.raises(BadInput, match=r"not of the queries 'dev' as they are now: delete \S+queries-dev and encode again"):
        RetrievalData(MsMarcoTsv(str(root)), str(store_folder)).setup("fit")


def test_a_damaged_store_is_found_before_training(source_root, store_folder, tmp_path):
    shutil.copytree(store_folder, tmp_path / "store")
    shard = tmp_path / "store" / "queries-dev" / "00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BadInput, match=r"queries-dev/00000\.npy: its bytes changed"):
        RetrievalData(MsMarcoTsv(str(source_root)), str(tmp_path / "store")).setup("fit")


# what the student and the evaluation get


def test_the_teacher_gives_vectors_and_scores_by_row(data, teacher):
    module = data(candidates=3)
    rows = np.array([50, 3])
    tokens = Tokens(torch.zeros(2, 1).long(), torch.ones(2, 1).long())
    batch = Batch(tokens, torch.from_numpy(rows), torch.from_numpy(module.candidate_rows[rows]))
    encoded = module.teacher(batch)
    texts, documents = module.source.queries("train"), module.source.documents()
    query = encode_texts(teacher, texts.read(rows), "query")
    document = np.stack([encode_texts(teacher, documents.read(found), "document") for found in module.candidate_rows[rows]])
    torch.testing.assert_close(encoded.query, torch.from_numpy(query), atol=1e-3, rtol=0)
    torch.testing.assert_close(encoded.document, torch.from_numpy(document), atol=1e-3, rtol=0)
    by_hand = torch.tensor([[float(query[i] @ document[i, j]) for j in range(3)] for i in range(2)])
    torch.testing.assert_close(encoded.scores, by_hand, atol=2e-3, rtol=0)
    assert torch.equal(encoded.document_rows, batch.document_rows)
    assert encoded.query.dtype == torch.float32


def test_the_teachers_space(data):
    space = data().teacher_space
    assert (space.width, space.normalized) == (32, True)


@pytest.mark.parametrize("split", ["dev", "dev+test", "test+dev"])
def test_evaluation_queries_in_the_order_of_the_splits(source_root, store_folder, teacher, split):
    source = MsMarcoTsv(str(source_root))
    texts, vectors = open_evaluation_queries(source, TeacherStore(store_folder), split)
    parts = [(f"{part}{i}", source.queries(part)[i]) for part in split.split("+") for i in range(12)]
    assert list(texts.ids) == [id_ for id_, _ in parts]
    assert list(texts) == [text for _, text in parts]
    np.testing.assert_allclose(vectors.take(np.arange(len(parts))), encode_texts(teacher, [text for _, text in parts], "query"), atol=1e-3)


def with_trainer(module: RetrievalData, encoder, rank: int = 0, world_size: int = 1) -> RetrievalData:
    """With as much of a trainer as the loaders ask for."""
    progress = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=0)))
    loop = SimpleNamespace(epoch_loop=progress)
    module.connect(encoder)
    device = SimpleNamespace(root_device=torch.device("cpu"))
    module.trainer = SimpleNamespace(fit_loop=loop, global_rank=rank, world_size=world_size, strategy=device)
    return module


def test_tokens_vectors_and_candidates_of_a_batch_belong_together(source_root, with_extra, teacher):
    module = RetrievalData(
        MsMarcoTsv(str(source_root)), str(with_extra / "store"), queries=[str(with_extra / "extra.tsv")], candidates=2, batch_size=14
    )
    module.setup("fit")
    seen = []
    for batch in with_trainer(module, teacher).train_dataloader():
        with torch.inference_mode():
            vectors = teacher(batch.queries)
        torch.testing.assert_close(vectors, module.teacher(batch).query, atol=1e-3, rtol=0)
        np.testing.assert_array_equal(batch.document_rows, module.candidate_rows[batch.query_rows])
        seen += batch.query_rows.tolist()
    assert sorted(seen) == list(range(98))


def test_evaluation_batches_hold_every_dev_query(data, teacher):
    for world_size in (1, 2):
        seen = []
        for rank in range(world_size):
            module = with_trainer(data(), teacher, rank, world_size)
            for batch in module.val_dataloader():
                with torch.inference_mode():
                    vectors = teacher(batch.queries).numpy()
                np.testing.assert_allclose(vectors, module.dev_vectors.take(batch.query_rows.numpy()), atol=1e-3)
                seen += batch.query_rows.tolist()
        assert sorted(seen) == list(range(12))


def test_too_few_queries_for_the_ranks_are_refused(data, teacher):
    with pytest.raises(BadInput, match=r"data\.dev: 12 queries are too few for 13 ranks"):
        with_trainer(data(), teacher, 12, 13).val_dataloader()
    with pytest.raises(BadInput, match="96 training queries are too few for 97 ranks"):
        with_trainer(data(), teacher, 0, 97).train_dataloader()
