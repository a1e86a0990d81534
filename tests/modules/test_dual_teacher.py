"""Contrastive training of a dual encoder by hand; recomputing chunks changes memory and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from families import make_encoder, make_folder, make_tokenizer
from torch.profiler import ProfilerActivity, profile

from distill.data.negative_sampling import PairRows
from distill.encoders.towers import Towers, load_towers
from distill.modules.dual_teacher import DualTeacher
from distill.records import BadInput
from distill.texts.tokens import TokenArrays


def teacher(folder: Path, **settings) -> DualTeacher:
    """A two-layer BERT of width 16."""
    if not folder.exists():
        make_folder(folder, "bert", layers=2)
    module = DualTeacher(str(folder), **settings)
    module.prepare()
    module.log = module.log_dict = lambda *_, **__: None
    return module


def arrays(count: int, seed: int, length: int = 10) -> TokenArrays:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, length + 1, count)
    return TokenArrays(random.integers(5, 60, lengths.sum()).astype(np.int32), np.cumsum([0, *lengths]), pad_id=0)


def batch_of(module: DualTeacher, batch: int, candidates: int, tokens_per_chunk: int = 10_000):
    rows = np.random.default_rng(3).permutation(batch * candidates).reshape(batch, candidates)
    return module.training_batch(arrays(batch, 1), arrays(batch * candidates, 2), PairRows(np.arange(batch), rows), tokens_per_chunk)


@pytest.mark.parametrize("relevant", [None, np.array([[4, 2, -1], [0, 3, 1], [2, -1, -1]])], ids=["unjudged", "judged"])
def test_the_loss_by_hand(tmp_path, relevant):
    module = teacher(tmp_path / "model", temperature=0.1)
    queries, documents = arrays(3, 1), arrays(6, 2)
    rows = np.array([[4, 1], [0, 4], [2, 3]])  # document 4 answers the first query and is a negative of the second
    tower = module.towers.query
    query, document = (torch.stack([tower(t.batch(np.array([i])))[0] for i in range(len(t))]) for t in (queries, documents))
    losses = []
    for i, own in enumerate(rows):
        # each row of the whole batch once, but not its own documents a second time
        known = () if relevant is None else relevant[i]  # answers too, whoever brought them
        others = [row for j, pair in enumerate(rows) for row in pair if j != i and row not in own and row not in known]
        scores = (query[i] @ document[[*own, *others]].T / 0.1).double()
        losses.append(-scores.log_softmax(0)[0])
    loss = module.training_step(module.training_batch(queries, documents, PairRows(np.arange(3), rows, relevant), 24), 0)
    assert float(loss.detach()) == pytest.approx(float(sum(losses).detach()) / 3, abs=1e-5)


def gradients(module: DualTeacher, batch) -> tuple[float, dict[str, torch.Tensor]]:
    module.zero_grad()
    loss = module.training_step(batch, 0)
    loss.backward()
    return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("towers", ["shared", "separate"])
def test_recomputed_chunks_give_the_plain_large_batchs_result(tmp_path, towers):
    plain, recomputed = (teacher(tmp_path / "model", towers=towers, recompute=recompute) for recompute in (False, True))
    loss, expected = gradients(plain, batch_of(plain, 24, 3))
    again, found = gradients(recomputed, batch_of(recomputed, 24, 3, tokens_per_chunk=40))
    assert len(batch_of(recomputed, 24, 3, tokens_per_chunk=40).documents.batches) > 10
    assert again == pytest.approx(loss, abs=1e-5)
    assert found.keys() == expected.keys() and max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=0)


def peak_bytes(module: DualTeacher, queries: int) -> int:
    """The most memory that one step's tensors take at a time, beyond what was there before it."""
    batch = batch_of(module, queries, 2, tokens_per_chunk=160)
    gradients(module, batch)  # gradients exist from here on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        module.training_step(batch, 0).backward()
    changes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return int(np.cumsum(changes).max())


def test_memory_stays_flat_while_the_batch_grows_eightfold(tmp_path):
    make_folder(tmp_path / "model", "bert", layers=2, width=64)
    plain, recomputed = (teacher(tmp_path / "model", recompute=recompute) for recompute in (False, True))
    small, large = (peak_bytes(recomputed, queries) for queries in (16, 128))
    assert large < 1.2 * small  # vectors and scores grow, activations do not
    assert peak_bytes(plain, 128) > 4 * large  # what it would have been


def test_separate_towers_part_and_shared_ones_do_not(tmp_path):
    for kind, count in (("shared", 1), ("separate", 2)):
        module = teacher(tmp_path / "model", towers=kind)
        assert module.towers.shared == (kind == "shared")
        one = sum(parameter.numel() for parameter in module.towers.query.parameters())
        assert sum(parameter.numel() for parameter in module.parameters()) == count * one
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        gradients(module, batch_of(module, 8, 2))
        optimizer.step()
        same = [torch.equal(a, b) for a, b in zip(module.towers.query.parameters(), module.towers.document.parameters(), strict=True)]
        assert all(same) == (kind == "shared")
        module.save(tmp_path / kind)
        loaded = load_towers(str(tmp_path / kind))
        assert (loaded.shared, loaded.fingerprint()) == (module.towers.shared, module.fingerprint())


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_two_towers_are_a_router_of_sentence_transformers(family, tmp_path):
    theirs = pytest.importorskip("sentence_transformers")
    prompts = {"query": "find ", "document": "letter "}
    towers = Towers(make_encoder(family, prompts=prompts), make_encoder(family, prompts=prompts, seed=1))
    towers.save_pretrained(tmp_path / "model")
    router, loaded = theirs.SentenceTransformer(str(tmp_path / "model"), device="cpu"), load_towers(str(tmp_path / "model"))
    for role, encode in (("query", router.encode_query), ("document", router.encode_document)):
        expected = torch.from_numpy(encode(["old river", "a market"]))
        torch.testing.assert_close(towers.encode(["old river", "a market"], role), expected, atol=1e-5, rtol=0)
        assert torch.equal(loaded.encode(["old river", "a market"], role), towers.encode(["old river", "a market"], role))


def test_a_plain_folder_says_how_it_pools_by_option(tmp_path):
    encoder = make_encoder("bert")
    encoder.backbone.save_pretrained(tmp_path / "plain")
    make_tokenizer("bert").save_pretrained(tmp_path / "plain")
    with pytest.raises(BadInput, match="does not say how it pools"):
        DualTeacher(str(tmp_path / "plain")).prepare()
    module = DualTeacher(str(tmp_path / "plain"), pooling="mean", normalize=True)
    module.prepare()
    assert torch.equal(module.towers.encode(["old river"], "query"), encoder.encode(["old river"], "query"))
    assert "pooling mean (given)" in module.origin and "max_length 16 (its own)" in module.origin
    longer = DualTeacher(str(tmp_path / "plain"), pooling="mean", normalize=False)
    longer.prepare()
    assert (module.loss.temperature_in_use, longer.loss.temperature_in_use) == (0.05, 1.0)  # what suits cosines, and other scores
    assert "temperature 1.0 (its own)" in longer.origin
    resumed = DualTeacher(str(tmp_path / "plain"))
    longer.towers.save_pretrained(tmp_path / "start")
    resumed.prepare(tmp_path / "start")
    assert resumed.loss.temperature_in_use == 1.0


def test_two_towers_are_not_taken_for_one(tmp_path):
    Towers(make_encoder("bert"), make_encoder("bert", seed=1)).save_pretrained(tmp_path / "two")
    with pytest.raises(BadInput, match="has two towers: set towers: separate"):
        DualTeacher(str(tmp_path / "two")).prepare()
    module = DualTeacher(str(tmp_path / "two"), towers="separate")
    module.prepare()
    assert not module.towers.shared
    with pytest.raises(BadInput, match="16 wide, the document tower 8"):
        Towers(make_encoder("bert"), make_encoder("bert", width=8))
