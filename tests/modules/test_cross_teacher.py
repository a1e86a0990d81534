"""What a cross encoder is trained on and for, against arithmetic by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from families import make_cross, make_folder

from distill.data.negative_sampling import PairRows
from distill.encoders.cross_folder import load_cross_encoder
from distill.modules.cross_teacher import CrossTeacher, dual_pooling_regulariser
from distill.records import BadInput
from distill.texts.tokens import TokenArrays

QUERIES = [[6, 7], [8], [9, 10, 11]]
DOCUMENTS = [[20, 21, 22], [23], [24, 25, 26, 27, 28, 29], [30, 31], []]


def arrays(texts: list[list[int]]) -> TokenArrays:
    flat = np.array([id_ for text in texts for id_ in text], np.int32)
    return TokenArrays(flat, np.cumsum([0, *map(len, texts)]), pad_id=0)


def teacher(folder: Path, head="dual_pooling", **settings) -> CrossTeacher:
    make_cross("bert", head).save_pretrained(folder)
    module = CrossTeacher(str(folder), head, **settings)
    module.prepare()
    module.log = module.log_dict = lambda *_, **__: None
    return module


def batch_of(module: CrossTeacher, rows, tokens_per_chunk: int = 10_000):
    return module.training_batch(arrays(QUERIES), arrays(DOCUMENTS), PairRows(*map(np.array, rows)), tokens_per_chunk)


ROWS = ([2, 0], [[3, 0, 2], [1, 2, 3]])


def pairs_one_by_one(module: CrossTeacher, rows):
    """Each pair alone through the encoder: ([B, K] scores, vectors by (b, k))."""
    read = [[module.encoder(module.encoder.build_pairs([QUERIES[q]], [DOCUMENTS[d]])) for d in own] for q, own in zip(*rows, strict=True)]
    return torch.stack([torch.cat([one.scores for one in row]) for row in read]), read


@pytest.mark.parametrize("tokens_per_chunk", [1, 24, 10_000])
def test_the_loss_by_hand(tmp_path, tokens_per_chunk):
    module = teacher(tmp_path / "model", regulariser=0.3)
    scores, read = pairs_one_by_one(module, ROWS)
    one_hot = -scores.double().log_softmax(1)[:, 0].mean()
    distances = []
    for q, own, row in zip(*ROWS, read, strict=True):
        query_alone = module.encoder(module.encoder.build_pairs([QUERIES[q]], [[]])).query[0]
        for d, pair in zip(own, row, strict=True):
            document_alone = module.encoder(module.encoder.build_pairs([[]], [DOCUMENTS[d]])).document[0]
            distances.append(2 - pair.query[0] @ query_alone - pair.document[0] @ document_alone)
    expected = one_hot + 0.3 * sum(distances) / len(distances)
    loss = module.training_step(batch_of(module, ROWS, tokens_per_chunk), 0)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=2e-5)
    loss.backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize(("head", "weight"), [("cls", None), ("dual_pooling", 0.0)])
def test_without_a_regulariser_nothing_is_read_alone(tmp_path, head, weight):
    module = teacher(tmp_path / "model", head, regulariser=weight)
    batch = batch_of(module, ROWS)
    assert batch.alone is None
    scores, _ = pairs_one_by_one(module, ROWS)
    expected = -scores.log_softmax(1)[:, 0].mean()
    assert float(module.training_step(batch, 0).detach()) == pytest.approx(float(expected.detach()), abs=1e-5)


def test_the_regulariser_by_hand():
    query, document = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    query_alone, document_alone = torch.tensor([[0.0, 1.0], [0.6, 0.8]]), torch.tensor([[0.6, 0.8], [-1.0, 0.0]])
    # queries: 1 - 0 and 1 - 1; documents: 1 - 0.8 and 1 + 1
    assert float(dual_pooling_regulariser(query, document, query_alone, document_alone)) == pytest.approx((1 + 0 + 0.2 + 2) / 2)


def test_missing_candidates_come_last(tmp_path):
    module = teacher(tmp_path / "model")
    rows = PairRows(*map(np.array, ([1, 2], [[3, 2, 0], [1, -1, -1]])))
    scores = module.validation_step(module.dev_batch(arrays(QUERIES), arrays(DOCUMENTS), rows, 1000), 0)
    assert scores.isneginf().tolist() == [[False, False, False], [False, True, True]]
    data = type("Data", (), {"dev_candidates": np.array([[9, 9, 9], [3, 2, 0], [1, -1, -1]])})
    ranked = module.rank_documents(data, np.array([1, 2]), scores)
    best = [3, 2, 0][int(scores[0].argmax())]
    assert ranked[0, 0] == best and ranked[1].tolist() == [1, -1, -1]
    assert sorted(ranked[0].tolist()) == [0, 2, 3]


def test_a_saved_teacher_scores_as_the_module_does(tmp_path):
    module = teacher(tmp_path / "model", temperature=0.2, max_length=12)
    module.save(tmp_path / "saved")
    loaded = load_cross_encoder(str(tmp_path / "saved"))
    assert loaded.settings == module.encoder.settings
    assert torch.equal(loaded.score(["old river"], ["market"]).scores, module.encoder.score(["old river"], ["market"]).scores)


@pytest.mark.parametrize(("head", "weight"), [("dual_pooling", 1.0), ("cls", 0.0)])
def test_the_regulariser_weighs_one_where_there_is_one(head, weight, tmp_path):
    module = teacher(tmp_path / "model", head)
    assert module.regulariser == weight and (batch_of(module, ROWS).alone is None) == (weight == 0)


def test_settings_come_from_the_folder_unless_given(tmp_path):
    module = teacher(tmp_path / "model", max_length=10)
    assert module.origin == f"begins from the weights of {tmp_path / 'model'}: max_length 10 (given), temperature 0.05 (its own)"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "cls", "regulariser": 0.1}, "neither a regulariser nor a temperature"),
        ({"head": "cls", "temperature": 0.1}, "neither a regulariser nor a temperature"),
        ({"head": "dual_pooling", "regulariser": -1.0}, "0 or more"),
        ({"head": "cls", "learning_rate": 0.0}, "learning_rate"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(BadInput, match=words):
        CrossTeacher("anything", **settings)


def test_a_checkpoint_needs_its_run(tmp_path):
    module = teacher(tmp_path / "model")
    (tmp_path / "lost").mkdir()
    torch.save({"global_step": 1, "state_dict": module.state_dict()}, tmp_path / "lost" / "last.ckpt")
    with pytest.raises(BadInput, match=r"only weights, and no .*start that says of what"):
        CrossTeacher(str(tmp_path / "lost" / "last.ckpt"), "dual_pooling").prepare()
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    make_cross("bert", seed=5).save_pretrained(run / "start")
    torch.save({"global_step": 1, "state_dict": module.state_dict()}, run / "checkpoints" / "last.ckpt")
    begun = CrossTeacher(str(run / "checkpoints" / "last.ckpt"), "dual_pooling", max_length=9)
    begun.prepare()
    assert begun.encoder.settings.max_length == 9
    assert all(torch.equal(tensor, begun.state_dict()[name]) for name, tensor in module.state_dict().items())
    with pytest.raises(BadInput, match=r"it has no head\.|its weights lack"):
        CrossTeacher(str(run / "checkpoints" / "last.ckpt"), "cls").prepare()


def test_an_encoders_folder_begins_a_cross_encoder(tmp_path):
    module = CrossTeacher(str(make_folder(tmp_path / "model", "mpnet")), "cls")
    module.prepare()
    assert module.encoder.score(["old river"], ["market"]).scores.shape == (1,)
