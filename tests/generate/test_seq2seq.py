"""A real small BART and T5 write queries: as many as asked for, the same ones again, from states that are computed once."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from commands import distill, furthest, in_process, on_ranks, teach_arguments
from writers import make_writer

from distill.encoders.seq2seq import Seq2SeqModel
from distill.files.atomic import read_json
from distill.generate import Seq2Seq
from distill.records import BadInput

TESTS = Path(__file__).parents[1]
KINDS = ["bart", "t5"]
TEXTS = ["the best old river is near", "bread", "how to find a red engine in winter", "a slow letter"]


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make_writer(tmp_path_factory.mktemp("writers") / kind, kind) for kind in KINDS}


def write(generator: Seq2Seq, counts: list[int], seed: int = 0) -> list[list[str]]:
    return generator.write(TEXTS, counts, random.Random(seed), lambda done: None)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_as_asked_for_and_the_same_again(kind, writers):
    generator = Seq2Seq(str(writers[kind]), longest_query=6, precision="fp32")
    made = write(generator, [3, 0, 1, 2])
    assert [len(queries) for queries in made] == [3, 0, 1, 2]
    assert write(generator, [3, 0, 1, 2]) == made != write(generator, [3, 0, 1, 2], seed=1)
    assert all(len(query.split()) <= 6 and "[" not in query for queries in made for query in queries)


def test_too_large_a_batch_is_divided_and_begins_with_the_same_random_numbers(writers, caplog):
    """A device whose memory runs out with more than 6 queries at once, after it has drawn random numbers for them."""
    generator, small = (Seq2Seq(str(writers["bart"]), longest_query=6, precision="fp32") for _ in range(2))
    generate = generator._writer.model.generate

    def refuse_large(encoder_outputs, **given):
        if len(encoder_outputs.last_hidden_state) > 6:
            torch.rand(3)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(encoder_outputs=encoder_outputs, **given)

    generator._writer.model.generate = refuse_large
    small._writer.budget.limit = 8 * max(map(len, small._writer.token_ids(TEXTS, "document"))) // 2
    assert write(generator, [2, 2, 2, 2]) == write(small, [2, 2, 2, 2])
    assert [message.partition(":")[0] for message in caplog.messages] == ["the memory of cpu ran out"]
    with pytest.raises(BadInput, match="even alone: set longest_text or longest_query to fewer"):
        generator._writer.budget.halve(count=1, length=9, device=torch.device("cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_free_states_are_the_models_own(kind, writers):
    """The likeliest token from repeated states is what the model says of each text alone."""
    generator = Seq2Seq(str(writers[kind]), top_k=1, longest_query=5, precision="fp32")
    made = write(generator, [2, 2, 2, 2])
    loaded = Seq2SeqModel.load(str(writers[kind]))
    for text, queries in zip(TEXTS, made, strict=True):
        ids = torch.tensor(loaded.token_ids([text], "document"))
        greedy = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=5)
        assert queries == [loaded.tokenizer.decode(greedy[0], skip_special_tokens=True)] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_a_share_of_the_states_size(kind, writers, monkeypatch):
    seen: list[torch.Tensor] = []
    generator = Seq2Seq(str(writers[kind]), of="queries", noise=0.5, longest_query=2, precision="fp32")
    generate = generator._writer.model.generate

    def listens(encoder_outputs, **given):
        seen.append(encoder_outputs.last_hidden_state)
        return generate(encoder_outputs=encoder_outputs, **given)

    monkeypatch.setattr(generator._writer.model, "generate", listens)
    generator.write(["the best old river is near the red garden"], [200], random.Random(0), lambda done: None)
    states = torch.cat(seen)
    own = states.mean(0)  # of two hundred
    assert float((states - own).square().mean() / own.square().mean()) == pytest.approx(0.25, rel=0.05)


def test_masks_take_the_place_of_words(writers):
    generator = Seq2Seq(str(writers["bart"]), of="queries", mask=0.5)
    ids = generator._writer.token_ids(["the best old river is near the red garden"] * 50, "document")
    masked = [generator._mask_tokens(row, random.Random(i)) for i, row in enumerate(ids)]
    mask = generator._writer.tokenizer.mask_token_id
    share = sum(row.count(mask) for row in masked) / sum(len(row) - 2 for row in masked)
    assert 0.4 < share < 0.6
    assert all(row[0] == ids[0][0] and row[-1] == ids[0][-1] for row in masked)
    assert all(token in (mask, ids[0][i]) for row in masked for i, token in enumerate(row))


def test_what_a_model_without_a_mask_does_not_read(writers):
    """T5's own tokenizer has none."""
    generator = Seq2Seq(str(writers["t5"]), of="queries", mask=0.5)
    generator._writer.tokenizer.mask_token = None
    ids = generator._writer.token_ids(["the best old river is near the red garden"] * 50, "document")
    read = [generator._mask_tokens(row, random.Random(i)) for i, row in enumerate(ids)]
    assert all(row[0] == ids[0][0] and row[-1] == ids[0][-1] for row in read)
    assert 0.4 < sum(len(row) - 2 for row in read) / sum(len(row) - 2 for row in ids) < 0.6
    for row in read:
        rest = iter(ids[0])
        assert all(token in rest for token in row)


def test_likelihoods_by_hand(writers):
    """Padding on either side changes nothing, and the model's own loss is their mean over tokens."""
    from distill.encoders.tokenizing import pad_token_ids

    loaded = Seq2SeqModel.load(str(writers["t5"]))
    read, written = (loaded.token_ids(texts, role) for texts, role in ((TEXTS[:2], "document"), (TEXTS[2:], "query")))
    together = loaded.log_likelihoods(pad_token_ids(read, 0), pad_token_ids(written, 0)).detach()
    for i in range(2):
        ids, labels = torch.tensor([read[i]]), torch.tensor([written[i]])
        loss = loaded.model(input_ids=ids, labels=labels).loss.detach()
        assert float(together[i]) == pytest.approx(-float(loss) * len(written[i]), rel=1e-4)


def arguments(source: Path, model: Path, out: Path) -> list[str]:
    given = ["--generator", "Seq2Seq", "--generator.model", model, "--generator.longest_query", 8, "--generator.precision", "fp32"]
    return list(map(str, ["generate", *given, "--source", "MsMarcoTsv", "--source.root", source, "--count", 120, "--out", out]))


def test_stopped_and_started_again(writers, source_root, tmp_path, monkeypatch):
    monkeypatch.setattr(Seq2Seq, "queries_per_shard", 40)
    assert distill(*arguments(source_root, writers["bart"], tmp_path / "whole" / "made")) == 0
    write = Seq2Seq.write
    calls: list[int] = []

    def stops(self, *given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(self, *given)

    monkeypatch.setattr(Seq2Seq, "write", stops)
    assert distill(*arguments(source_root, writers["bart"], tmp_path / "again" / "made")) == 130
    assert len(list((tmp_path / "again" / "made").glob("0*.part"))) == 2
    assert distill(*arguments(source_root, writers["bart"], tmp_path / "again" / "made")) == 0
    assert len(calls) == 4
    assert (tmp_path / "again/made/made.jsonl").read_bytes() == (tmp_path / "whole/made/made.jsonl").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", ["mask", "noise"])
def test_perturb_and_decode_writes_a_file(variant, kind, writers, source_root, tmp_path):
    """The paper's two ways, of train queries."""
    given = [*arguments(source_root, writers[kind], tmp_path / "made"), "--generator.of", "queries", f"--generator.{variant}", "0.3"]
    assert distill(*given) == 0
    found = [json.loads(line) for line in (tmp_path / "made" / "made.jsonl").read_text().splitlines()]
    assert len(found) > 60 and all(line["source"].startswith("train") and line["text"] for line in found)
    assert read_json(tmp_path / "made" / "plan.json", "plan")["generator"][variant] == 0.3


def test_ranks_leave_the_bytes_of_one_process(writers, source_root, tmp_path, monkeypatch):
    monkeypatch.setattr(Seq2Seq, "queries_per_shard", 40)
    assert distill(*arguments(source_root, writers["t5"], tmp_path / "one" / "made")) == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert distill(*arguments(source_root, writers["t5"], tmp_path / "two" / "made")) == 0
    assert (tmp_path / "one/made/made.jsonl").read_bytes() == (tmp_path / "two/made/made.jsonl").read_bytes()


def teach(source: Path, model: Path, out: Path, *more) -> list:
    task = ["--task", "query-generation", "--model.start_from", model, "--model.longest_query", 12, "--model.learning_rate", 0.01]
    plain = teach_arguments(source, model, out)[1:]
    for option in ("--model", "--data.negatives", "--model.start_from", "--model.learning_rate"):
        at = plain.index(option)
        del plain[at : at + 2]
    return ["teach", *task, *plain, "--trainer.limit_train_batches", 10, *more]


@pytest.fixture(scope="module")
def taught(writers, source_root, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("taught")
    for kind in KINDS:
        assert distill(*teach(source_root, writers[kind], root / kind, "--checkpoint_every_n_steps", 2)) == 0
    return {kind: root / kind for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_to_write_queries(kind, taught, source_root, tmp_path):
    lines = [json.loads(line) for line in (taught[kind] / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    likelihoods = [line["dev/log_likelihood"] for line in lines if "dev/log_likelihood" in line]
    assert len(likelihoods) == 2 and likelihoods[1] > likelihoods[0] and losses[-1] < 0.8 * losses[0]
    assert read_json(taught[kind] / "teacher" / "query_generation.json", "settings")["longest_query"] == 12
    assert distill(*arguments(source_root, taught[kind] / "teacher", tmp_path / "made")) == 0
    assert distill(*teach(source_root, taught[kind] / "teacher", taught[kind])) == 2  # another start
    # what the saved folder says is what dev was measured with
    from distill.encoders.tokenizing import pad_token_ids
    from distill.texts.sources import MsMarcoTsv

    saved, source = Seq2SeqModel.load(str(taught[kind] / "teacher")), MsMarcoTsv(str(source_root))
    queries, documents = source.queries("dev"), source.documents()
    rows = source.qrels("dev").best_documents(list(queries.ids), documents.ids)
    written = saved.token_ids(list(queries), "query")
    with torch.no_grad():
        found = saved.log_likelihoods(pad_token_ids(saved.token_ids(documents.read(rows), "document"), 0), pad_token_ids(written, 0))
    assert float(found.sum()) / sum(map(len, written)) == pytest.approx(max(likelihoods), abs=1e-4)


def test_killed_and_resumed_it_ends_the_same(taught, writers, source_root, tmp_path):
    kill = json.dumps([{"class_path": "interruptions.SignalAt", "init_args": {"hook": "on_train_batch_start", "step": 13}}])
    given = teach(source_root, writers["t5"], tmp_path / "run", "--checkpoint_every_n_steps", 2)
    killed = in_process(*given, "--trainer.callbacks", kill)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert distill(*given) == 0
    assert furthest(*(run / "checkpoints" / "last.ckpt" for run in (taught["t5"], tmp_path / "run"))) == 0


def test_what_is_no_such_model_is_refused(teacher_folder, tmp_path, capsys, source_root):
    with pytest.raises(BadInput, match="no sequence-to-sequence model"):
        Seq2Seq(str(teacher_folder))
    with pytest.raises(BadInput, match="no such folder"):
        Seq2Seq(str(tmp_path / "nowhere"))
    assert distill(*teach(source_root, teacher_folder, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no sequence-to-sequence model" in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize("settings", [{"mask": 1.0}, {"noise": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"temperature": 0.0}])
def test_settings_that_sample_nothing_are_refused(settings, writers):
    with pytest.raises(BadInput, match="generator"):
        Seq2Seq(str(writers["bart"]), **settings)


def test_missing_weights_are_refused(writers, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in writers["t5"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in tensors if "decoder.block.1" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match="its weights lack"):
        Seq2Seq(str(tmp_path))


def test_a_folder_that_would_write_nonsense_is_refused(writers, tmp_path):
    folder = Path(shutil.copytree(writers["bart"], tmp_path / "bart"))
    assert Seq2SeqModel.load(str(folder), longest_text=1000).settings.longest_text == 64  # what its positions allow
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(BadInput, match="no sequence-to-sequence model such as BART or T5"):
        Seq2SeqModel.load(str(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match="no tokenizer in it"):
        Seq2SeqModel.load(str(folder))


def test_two_ranks_equal_one(writers, source_root, tmp_path):
    """Though one rank's queries have more tokens than the other's."""
    ranks = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 8]
    short = ["--trainer.max_epochs", 1, "--trainer.limit_train_batches", 3]
    assert distill(*teach(source_root, writers["t5"], tmp_path / "one", *short)) == 0
    found = on_ranks(*teach(source_root, writers["t5"], tmp_path / "two", *short, *ranks))
    assert found.returncode == 0, found.stderr
    assert furthest(*(run / "checkpoints" / "last.ckpt" for run in (tmp_path / "one", tmp_path / "two"))) < 5e-5
