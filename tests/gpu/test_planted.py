"""Mistakes that a GPU would punish and a CPU does not, planted into the product: each is caught where a verb runs on the simulated GPU."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from commands import distill
from cuda_stand_ins import simulated_gpu
from simulated_gpu import SimulatedGpu
from simulated_ranks import replace_collectives
from students import ON_GPU, ONE_EPOCH, student_arguments
from torch import Tensor
from torchmetrics import Metric
from writers import make_writer

from distill import records
from distill.encoders.folder import load_encoder
from distill.encoders.pooling import POOLERS
from distill.files.ranks import gather_rows
from distill.generate.seq2seq import Seq2Seq
from distill.losses import QueryMatching
from distill.modules.optimizer import RowAdamW
from distill.modules.student import StudentModule
from distill.records import TensorRecord, Tokens
from distill.teachers.stored import StoredTeacher
from distill.vectors.search import search


class World(NamedTuple):
    """What a job reads, and where it writes."""

    source: Path
    store: Path
    teacher: Path
    out: Path


def encode(world: World) -> None:
    load_encoder(str(world.teacher)).cuda().encode_query(["what is the best river", "old music"])


def search_documents(world: World) -> None:
    search(np.eye(3, 8, dtype=np.float32), np.eye(8, dtype=np.float16), k=2)


def train(world: World, *more: Any) -> None:
    short = ["--trainer.limit_train_batches", 5, "--trainer.limit_val_batches", 0]
    assert distill(*student_arguments("every loss", world.source, world.store, world.teacher, world.out, *short, *more)) == 0


def train_and_evaluate(world: World) -> None:
    train(world, "--trainer.limit_val_batches", 1.0)


def teach_writer(world: World) -> None:
    texts = ["--data.source", "MsMarcoTsv", "--data.source.root", world.source]
    steps = [*ON_GPU, *ONE_EPOCH, "--trainer.limit_train_batches", 1]
    writer = make_writer(world.out / "bart", "bart")
    distill("teach", "--task", "query-generation", "--model.start_from", writer, *texts, *steps, "--out", world.out / "run")


def write_queries(world: World) -> None:
    writer = Seq2Seq(str(make_writer(world.out, "bart")), noise=0.1)
    writer.prepare(None)  # type: ignore[arg-type]
    writer.write(["what is the best river"], [2], random.Random(0), lambda done: None)


@pytest.fixture
def world(source_root: Path, store_folder: Path, teacher_folder: Path, tmp_path: Path) -> World:
    return World(source_root, store_folder, teacher_folder, tmp_path / "out")


JOBS = [encode, search_documents, train, write_queries]


@pytest.mark.parametrize("job", JOBS)
def test_nothing_is_wrong_without_them(world: World, gpu: SimulatedGpu, job: Callable[[World], None]) -> None:
    job(world)


def forget_device(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *arguments, device=None, **options: make(*arguments, **options)


def pool_by_host_mask(states: Tensor, mask: Tensor) -> Tensor:
    return (states * torch.ones(mask.shape)[..., None]).mean(dim=1)


def add_host_noise(writer: Seq2Seq, states: Tensor, mask: Tensor) -> Tensor:
    return states + torch.randn(states.shape, device=states.device, generator=torch.Generator().manual_seed(0))


def step_with_host_state(step: Callable[..., Any]) -> Callable[..., Any]:
    """An optimizer whose state was loaded to the host."""

    def step_then_move(optimizer: RowAdamW, closure: Any = None) -> Any:
        loss = step(optimizer, closure)
        for state in optimizer.state.values():
            state["exp_avg"] = state["exp_avg"].cpu()
        return loss

    return step_then_move


def send_rows_too(record: TensorRecord, device: torch.device) -> TensorRecord:
    return replace(record, **{name: records.send(part, device) for name, part in record._parts().items()})


def send_and_wait(part: Any, device: torch.device) -> Any:
    return {key: value.to(device) for key, value in part.items()} if isinstance(part, dict) else part.to(device)


def send_converted(part: Any, device: torch.device) -> Any:
    if isinstance(part, dict):
        return {key: send_converted(value, device) for key, value in part.items()}
    is_half = getattr(part, "dtype", None) == torch.float16
    return part.to(device, torch.float32, non_blocking=True) if is_half else part.to(device)


class Mistake(NamedTuple):
    """`owner.name`, or `owner[name]`, is replaced by `value`."""

    owner: Any
    name: str
    value: Any

    def plant(self, patch: pytest.MonkeyPatch) -> None:
        put = patch.setitem if isinstance(self.owner, dict) else patch.setattr
        put(self.owner, self.name, self.value)


HOST_ARANGE, HOST_ZEROS = forget_device(torch.arange), forget_device(torch.zeros)
# the mistake, the job that makes it, and what the GPU says to it
REFUSED: dict[str, tuple[Mistake, Callable[[World], None], str]] = {
    "a mask made on the host": (Mistake(POOLERS, "mean", pool_by_host_mask), encode, "same device"),
    "tokens left on the host": (Mistake(Tokens, "to", lambda tokens, device: tokens), encode, "same device"),
    "no .cpu() before .numpy()": (Mistake(Tensor, "cpu", lambda tensor: tensor), search_documents, "convert cuda:0"),
    "positions made on the host": (Mistake(torch, "arange", HOST_ARANGE), search_documents, "same device"),
    "a buffer made on the host": (Mistake(torch, "zeros", HOST_ZEROS), search_documents, "same device"),
    "labels made on the host": (Mistake(torch, "arange", HOST_ARANGE), train, "same device"),
    "rows sent to the GPU": (Mistake(TensorRecord, "to", send_rows_too), train_and_evaluate, "convert cuda:0"),
    "a teacher that answers on the host": (Mistake(StoredTeacher, "read", StoredTeacher.look_up), train, "same device"),
    "an optimizer's state on the host": (Mistake(RowAdamW, "step", step_with_host_state(RowAdamW.step)), train, "same device"),
    "a metric's state on the host": (Mistake(Metric, "_apply", lambda metric, *_: metric), teach_writer, "different devices"),
    "a generator of the host": (Mistake(Seq2Seq, "_add_noise", add_host_noise), write_queries, "generator"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_refused(world: World, gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mistake, job, words = REFUSED[name]
    mistake.plant(monkeypatch)
    with pytest.raises((RuntimeError, TypeError), match=words):
        job(world)


def look_at_losses(compute: Callable[..., Any]) -> Callable[..., Any]:
    def compute_and_look(*arguments: Any) -> Any:
        step = compute(*arguments)
        assert all(float(loss.detach()) < 1e9 for loss in step.losses.values())
        return step

    return compute_and_look


def match_chosen_queries(loss: QueryMatching, student: Any, teacher: Any) -> Tensor:
    chosen = teacher.query.norm(dim=1) > 0
    return (student.query[chosen] - teacher.query[chosen]).norm(dim=1).mean()


# the mistake, and the wait that each step of a training has by it
COUNTED = {
    "a look at each loss": (Mistake(StudentModule, "compute_losses", look_at_losses(StudentModule.compute_losses)), "item"),
    "queries chosen by a mask": (Mistake(QueryMatching, "forward", match_chosen_queries), "boolean index"),
    "a copy that blocks": (Mistake(records, "send", send_and_wait), "copy to the GPU"),
    "fp16 converted on the way": (Mistake(records, "send", send_converted), "converted on the host"),
    "memory that is not pinned": (
        Mistake(Tensor, "pin_memory", lambda tensor: tensor),
        "copy to the GPU from memory that is not pinned",
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_wait_of_every_step_is_counted(world: World, gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mistake, kind = COUNTED[name]
    mistake.plant(monkeypatch)
    train(world)
    waits, steps = gpu.waits_of_steps()
    assert sum(count for wait, count in waits.items() if wait.kind == kind) >= steps > 0


def test_a_rank_without_its_number_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a launcher told the trainer, but not the process, which rank it is."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    arguments = ["--teacher", world.teacher, "--source", "MsMarcoTsv", "--source.root", world.source]
    with simulated_gpu(local_rank=1, gpus=2), pytest.raises(RuntimeError, match="cuda:0 is another rank's GPU"):
        distill("encode", *arguments, "--out", world.out)


def test_a_tensor_of_the_host_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.files.ranks.world_size", lambda: 2)
    replace_collectives(monkeypatch)
    with simulated_gpu(), pytest.raises(RuntimeError, match="all_gather: No backend type associated with device type cpu"):
        gather_rows(torch.zeros(2, 3))
