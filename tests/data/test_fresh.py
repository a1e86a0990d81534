"""Queries generated anew in every epoch: their texts and vectors, killed and resumed, on two ranks, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from collections_of_words import write_collection
from commands import distill, furthest, in_process, on_ranks, train_arguments
from conftest import make_teacher

from distill.callbacks.diagnosis import read_query_ids
from distill.data.datamodule import RetrievalData
from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.files.atomic import read_json, write_json
from distill.generate import Crop, Generator, Noise
from distill.generate.filters import sort_words, split_words
from distill.texts.sources import MsMarcoTsv

TESTS = Path(__file__).parents[1]
REAL = 96


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Encoder:
    return load_encoder(str(teacher_folder))


@pytest.fixture
def data(source_root, store_folder, teacher):
    def of(generator: Generator, share: float = 0.5, rank: int = 0, world_size: int = 1, epoch: int = 0, **more: Any) -> RetrievalData:
        """Set up, with as much of a trainer as its loader asks for."""
        source = more.pop("source", None) or MsMarcoTsv(str(source_root))
        module = RetrievalData(source, str(store_folder), fresh=generator, fresh_share=share, batch_size=16 // world_size, **more)
        module.setup("fit")
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(processed=0))))
        module.connect(teacher)
        device = SimpleNamespace(root_device=torch.device("cpu"))
        module.trainer = SimpleNamespace(fit_loop=loop, global_rank=rank, world_size=world_size, strategy=device)
        return module

    return of


@pytest.mark.parametrize("generator", [Crop(), Noise()], ids=["crop", "noise"])
def test_every_epoch_has_others_and_the_teachers_vectors_of_them(generator, data, teacher, source_root):
    module = data(generator)
    loader, texts, seen = module.train_dataloader(), [], []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == (REAL + 48) // 16
        for batch in batches:
            with torch.inference_mode():
                vectors = teacher(batch.queries)  # the tokens that a student of this tokenizer reads
            torch.testing.assert_close(module.teacher(batch).query, vectors, atol=1e-3, rtol=0)
            seen += batch.query_rows.tolist()
        texts.append(module.fresh_queries.texts(epoch))
    # the real ones twice, and each generated one once
    assert sorted(seen) == sorted([*range(REAL), *range(REAL), *range(REAL, REAL + 96)])
    assert all(len(set(those)) == 48 for those in texts) and len(set(texts[0]) & set(texts[1])) < 24
    assert data(generator).fresh_queries.texts(1) == texts[1] != data(generator, seed=1).fresh_queries.texts(1)
    assert read_query_ids(module, [REAL + 48 + 5, 3]) == [texts[1][5], "train3"]
    sources = MsMarcoTsv(str(source_root))
    known = {word for text in [*sources.documents(), *sources.queries("train")] for word in text.split()}
    assert generator.name == "noise" or {word for text in texts[0] for word in text.split()} <= known


@pytest.mark.parametrize("generator", [Crop(), Noise()], ids=["crop", "noise"])
def test_two_ranks_see_disjoint_texts_and_together_those_of_one(generator, data):
    def seen(rank: int, world_size: int) -> list[list[str]]:
        module = data(generator, 2.0, rank, world_size)
        queries = module.fresh_queries
        return [
            [f"real {row}" if row < REAL else " ".join(split_words(queries.text(row))) for row in batch.query_rows.tolist()]
            for batch in module.train_dataloader()
        ]

    one, first, second = seen(0, 1), seen(0, 2), seen(1, 2)
    assert not {text for batch in first for text in batch} & {text for batch in second for text in batch}
    assert [sorted(batch) for batch in one] == [sorted(a + b) for a, b in zip(first, second, strict=True)]
    assert len({text for batch in one for text in batch}) == 3 * REAL


@pytest.mark.parametrize("generator", [Crop(), Noise()], ids=["crop", "noise"])
def test_no_evaluation_query_among_them(generator, data, source_root, tmp_path):
    """Documents are what dev asks; real queries are a word more."""
    root = tmp_path / source_root.name
    shutil.copytree(source_root, root)
    source = MsMarcoTsv(str(root))
    asked = list(MsMarcoTsv(str(source_root)).queries("train"))
    (root / "queries.dl19.tsv").write_text("".join(f"p{i}\t{' '.join(text.split()[:-1]).upper()}?\n" for i, text in enumerate(asked)))
    module = data(generator, 5.0, source=source)
    evaluation_wordings = {sort_words(split_words(text)) for split in ("dev", "test", "dl19") for text in source.queries(split)}
    free = data(generator, 5.0).fresh_queries
    for epoch in range(3):
        assert not {sort_words(split_words(text)) for text in module.fresh_queries.texts(epoch)} & evaluation_wordings
    if generator.name == "noise":  # it does make them where nobody asks them
        assert {sort_words(split_words(text)) for text in free.texts(0)} & evaluation_wordings


def fresh(source: Path, store: Path, out: Path, *more: Any) -> list[Any]:
    given = ["--data.fresh", "Crop", "--data.fresh.kinds", "{spans: 1, keywords: 1}", "--data.fresh_share", 0.5]
    return train_arguments(source, store, out, *given, "--checkpoint_every_n_steps", 2, *more)  # two epochs of 9 steps


@pytest.mark.parametrize("generator", [Crop({"titles": 0.5, "spans": 0.5}), Noise()], ids=["crop", "noise"])
def test_no_query_of_a_watched_collection_among_them(generator, data, source_root, tmp_path):
    """A query that is trained on, and the beginning of a document, are asked in a watched collection too."""
    source = MsMarcoTsv(str(source_root))
    asked = [source.queries("train")[0], *(" ".join(text.split()[:size]) for text in source.documents() for size in range(1, 12))]
    folder = write_collection(tmp_path / "suite" / "north", (3, 7), seed=0)
    known = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    rows = [*known, *({"_id": f"a{row}", "text": text} for row, text in enumerate(dict.fromkeys(asked)))]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{row['_id']}\td1\t1\n" for row in rows))
    fresh = data(generator, dev_suite=[str(folder)]).fresh_queries
    assert not {tuple(split_words(text)) for text in fresh.texts(0)} & {tuple(split_words(text)) for text in asked}
    assert asked[0] not in list(fresh.source_texts)


def test_killed_within_an_epoch_it_ends_with_the_same_weights(source_root, store_folder, tmp_path):
    whole, again = (fresh(source_root, store_folder, tmp_path / name) for name in ("whole", "again"))
    assert distill(*whole) == 0
    kill = {"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_start", "step": 13}}
    killed = in_process(*again, "--trainer.callbacks", json.dumps([kill]))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(tmp_path / "again" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    assert distill(*again) == 0
    assert furthest(*(tmp_path / name / "checkpoints" / "last.ckpt" for name in ("whole", "again"))) == 0
    # it is another training than one without them, and the run folder tells whose data it was made from
    plain = train_arguments(source_root, store_folder, tmp_path / "whole")
    assert distill(*plain) == 2
    assert distill("evaluate", tmp_path / "whole", "--split", "test") == 0


def test_two_ranks_learn_from_them(source_root, store_folder, tmp_path):
    """What every rank has seen, by `Seen`, in two epochs of 9 steps, and the student of one rank."""
    seen = json.dumps([{"class_path": "interruptions.Seen", "init_args": {"folder": str(tmp_path)}}])
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8, "--trainer.callbacks", seen]
    found = on_ranks(*fresh(source_root, store_folder, tmp_path / "run", *ranks))
    assert found.returncode == 0, found.stderr
    lines = [[json.loads(line) for line in (tmp_path / f"2-{rank}.jsonl").read_text().splitlines()] for rank in (0, 1)]
    for epoch in (0, 1):
        first, second = ([row for at, _, rows in those if at == epoch for row in rows] for those in lines)
        begin = REAL + 48 * epoch
        assert sorted(first + second) == [*range(REAL), *range(begin, begin + 48)]
    assert distill(*fresh(source_root, store_folder, tmp_path / "one", "--data.batch_size", 16)) == 0
    assert furthest(*(tmp_path / name / "checkpoints" / "last.ckpt" for name in ("one", "run")), without="key.bias") < 5e-5


REFUSED = {
    "a share without a generator": (["--data.fresh_share", 1], "only beside data.fresh"),
    "no share": (["--data.fresh", "Crop", "--data.fresh_share", 0], "above 0"),
    "more than there are": (["--data.fresh", "Noise", "--data.fresh.kinds", "{truncate: 1}", "--data.fresh_share", 50], "lower it"),
    "a model": (["--data.fresh", "Llm", "--data.fresh.address", "http://127.0.0.1:9/v1", "--data.fresh.model", "m"], "too slow"),
    "candidates": (["--data.fresh", "Crop", "--data.candidates", 2], "no candidates"),
    "no such generator": (["--data.fresh", "Poems"], "Poems"),
    "a share below 0": (["--data.queries", "{more.tsv: -0.5}"], "more.tsv: -0.5: a share is 0 or more"),
}


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_generated_anew(options, words, source_root, store_folder, tmp_path, capsys):
    assert distill(*train_arguments(source_root, store_folder, tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "changed"}, "not the model that made the store"),
        ({"name": "nowhere"}, "is not here to embed new queries"),
        ({"origin": "were imported"}, "is not here to embed new queries"),
    ],
    ids=["another model", "gone", "imported"],
)
def test_another_teacher_is_refused(change, words, source_root, store_folder, tmp_path, capsys):
    shutil.copytree(store_folder, tmp_path / "store")
    make_teacher(tmp_path / "changed", seed=7)
    given = {name: str(tmp_path / value) if name == "name" else value for name, value in change.items()}
    for manifest in (tmp_path / "store").glob("*/manifest.json"):
        found = read_json(manifest, "manifest")
        write_json(manifest, {**found, "maker": {**found["maker"], **given}})
    assert distill(*train_arguments(source_root, tmp_path / "store", tmp_path / "run", "--data.fresh", "Crop")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error and not (tmp_path / "run").exists()


def test_texts_and_vectors_of_stored_and_generated_queries_in_one_batch(data, teacher):
    """Vectors are float16, computed in the store's own number format."""
    module = data(Crop())
    queries = module.fresh_queries
    rows = np.array([REAL + 1, 2, REAL + 50])
    vectors = queries.take(rows)
    texts = [queries.text(REAL + 1), module.source.queries("train")[2], queries.text(REAL + 50)]
    assert module.query_texts(rows) == module.query_texts(torch.from_numpy(rows)) == texts
    np.testing.assert_allclose(vectors, teacher.encode(texts, "query").numpy(), atol=1e-3)
    assert vectors.dtype == np.float16 and len(queries) == REAL
