"""Whether the card computes what the CPU does: search, losses and gradients, a training, NCCL with one rank, the tests of tests/gpu."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

import distill
from card.device import TESTS, Card
from card.report import CHECKS, Report
from card.training import Stopwatch, train
from card.world import World
from distill.records import Encoded

NEAR = 1e-5  # how far fp32 results of two devices may lie apart, relative to 1
SCORES = 2e-6  # the same for scores of directions; TF32 lies some 3e-5 off, bf16 more
FIRST_STEP, LAST_STEP = 1e-4, 1e-2  # the same for a training's losses
LOSSES = {
    "QueryMatching": distill.QueryMatching,
    "DocumentMatching": distill.DocumentMatching,
    "SimilarityMatching": distill.SimilarityMatching,
    "ContrastiveMatching": distill.ContrastiveMatching,
    "ScoreDistillation": distill.ScoreDistillation,
    "MarginMSE": distill.MarginMSE,
    "ScoreMSE": distill.ScoreMSE,
    "OneHot": distill.OneHot,
}


def measure(card: Card, world: World, report: Report) -> None:
    """Runs one check after the other; an error of one does not keep the others from running."""
    checks = [check_search, check_losses, check_training, check_nccl, check_tests]  # in the order of CHECKS
    for name, check in zip(CHECKS, checks, strict=True):
        try:
            found = check(card, world)
        except Exception as error:
            found = f"FAILED: {type(error).__name__}: {str(error)[:300]}"
        report.add("correctness", name, "result", found, "")


@torch.no_grad()
def check_search(card: Card, world: World) -> str:
    """Ids, their order and scores against float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    count, k = (300, 7) if card.simulated else (60_000, 100)
    # small integers, whose scores are exact and often equal
    queries = torch.randint(-3, 4, (33, 16), generator=generator).float()
    documents = torch.randint(-3, 4, (count, 16), generator=generator).half()
    exact = queries.double() @ documents.double().T
    rows = exact.sort(dim=1, descending=True, stable=True).indices[:, :k]  # equal scores: the lower row first
    # directions, whose scores TF32 or bf16 would round
    real_queries = F.normalize(torch.randn(33, 384, generator=generator), dim=1)
    real_documents = F.normalize(torch.randn(count, 384, generator=generator), dim=1).half()
    real = real_queries.double() @ real_documents.double().T
    furthest = 0.0
    for name in ("streamed", "pinned", "resident"):
        scores, found = distill.search(queries.to(card.device), put(card, documents, name), k)
        if not torch.equal(found.cpu(), rows):
            return f"FAILED: {name}: {int((found.cpu() != rows).sum()):,} of {rows.numel():,} places hold another document"
        if not torch.equal(scores.cpu().double(), exact.gather(1, rows)):
            return f"FAILED: {name}: other scores"
        scores, found = distill.search(real_queries.to(card.device), put(card, real_documents, name), k)
        distance = measure_distance(scores.cpu(), found.cpu(), real)
        if distance > SCORES:
            return f"FAILED: {name}: scores or documents {distance:.2g} from float64's"
        furthest = max(furthest, distance)
    return f"equal: {rows.numel():,} places, streamed, pinned and resident; scores of directions within {furthest:.1g} of float64's"


def put(card: Card, documents: Tensor, place: str) -> Any:
    """Documents of the host where a search finds them: in its memory, in pinned memory, on the card."""
    if place == "streamed":
        return documents.numpy()
    return card.pin(documents) if place == "pinned" else documents.to(card.device)


def measure_distance(scores: Tensor, rows: Tensor, exact: Tensor) -> float:
    """How far scores [Q, k] lie from the exact ones [Q, N] of their rows [Q, k], and these from the k highest.

    >>> measure_distance(torch.tensor([[2.0]]), torch.tensor([[0]]), torch.tensor([[2.0, 2.5]]))
    0.5
    """
    own = exact.gather(1, rows)
    best = exact.topk(rows.shape[1], dim=1).values
    return float(torch.maximum((scores - own).abs(), (best - own).abs()).max())


def make_encoded(device: torch.device, seed: int) -> Encoded:
    """6 queries with 4 documents each; query and documents have gradients."""
    generator = torch.Generator().manual_seed(seed)
    query = F.normalize(torch.randn(6, 16, generator=generator), dim=1).to(device).requires_grad_()
    document = F.normalize(torch.randn(6, 4, 16, generator=generator), dim=2).to(device).requires_grad_()
    rows = torch.arange(24).view(6, 4).to(device)
    return Encoded(query, document, torch.einsum("bd,bkd->bk", query, document), rows)


def loss_and_gradients(kind: type[distill.Loss], device: torch.device) -> list[Tensor]:
    student, teacher = make_encoded(device, 0), make_encoded(device, 1)
    value = kind()(student, teacher)
    value.backward()
    parts = [value.detach(), student.query.grad, student.document.grad]
    return [part.detach().cpu() for part in parts if part is not None]


def check_losses(card: Card, world: World) -> str:
    furthest = 0.0
    for name, kind in LOSSES.items():
        pairs = zip(loss_and_gradients(kind, card.device), loss_and_gradients(kind, torch.device("cpu")), strict=True)
        distance = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
        if distance > NEAR:
            return f"FAILED: {name}: {distance:.2g} from the CPU's"
        furthest = max(furthest, distance)
    return f"{len(LOSSES)} losses and their gradients within {furthest:.1g} of the CPU's"


def check_training(card: Card, world: World) -> str:
    """The losses of the same steps in fp32 on both devices.

    They drift apart: only on the GPU an update moves words that the batch lacks.
    """
    layers, batch_size = world.sizes.student_layers[0], world.sizes.batches[0]
    losses = []
    for accelerator in ("gpu", "cpu"):
        options = {"accelerator": accelerator, "precision": "32-true", "log_every_n_steps": 1}
        _, run = train(world, f"same {accelerator}", layers, batch_size, world.sizes.candidates[-1], Stopwatch(1, 3), **options)
        losses.append(np.array(run.history["train/loss"].values))
    apart = np.abs(losses[0] / losses[1] - 1)  # [steps]
    verdict = "" if apart[0] < FIRST_STEP and apart.max() < LAST_STEP else "FAILED: "
    return f"{verdict}the loss of the first step {apart[0]:.1g} from the CPU's, of {len(apart)} steps at most {apart.max():.1g}"


def check_nccl(card: Card, world: World) -> str:
    """A process group of one rank, and a training within Lightning's DDP."""
    if card.simulated:
        return "needs a card"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group("nccl", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    numbers = card.random(1000)
    summed, gathered = numbers.clone(), torch.empty_like(numbers)
    torch.distributed.all_reduce(summed)
    torch.distributed.all_gather_into_tensor(gathered, numbers)
    torch.distributed.destroy_process_group()
    if not torch.equal(summed, numbers) or not torch.equal(gathered, numbers):
        return "FAILED: one rank gathers other numbers than it sent"
    layers, batch_size, candidates = world.sizes.student_layers[0], world.sizes.batches[0], world.sizes.candidates[-1]
    _, run = train(world, "ddp", layers, batch_size, candidates, Stopwatch(1, 3), strategy="ddp")
    if torch.distributed.is_initialized():  # not for the tests that follow
        torch.distributed.destroy_process_group()
    return f"sums, gathers, and trains within DDP ({'finished' if run.folder.finished else 'UNFINISHED'})"


def check_tests(card: Card, world: World) -> str:
    """The tests that every machine runs on a simulated device run on this card."""
    if card.simulated:
        return "needs a card: here they run on the simulated one, by pytest tests/gpu"
    if find_spec("pytest") is None:
        return "not run: needs pytest"
    sys.path[:0] = [str(TESTS / "gpu"), str(TESTS)]
    import cuda_stand_ins
    import pytest

    cuda_stand_ins.simulated_gpu = own_gpu  # the fixture `gpu` takes it from there
    outcomes = Outcomes()
    pytest.main([str(TESTS / "gpu" / "test_verbs.py"), "-q", "-p", "no:cacheprovider", "-c", str(TESTS.parent / "setup.cfg")], [outcomes])
    failed = ", ".join(outcomes.failed)
    return f"FAILED: {failed}"[:600] if failed else f"{outcomes.passed} passed, {outcomes.skipped} skipped"


@contextmanager
def own_gpu(*_: Any) -> Iterator[Any]:
    """Stands for `simulated_gpu` on a machine with a card: torch is left as it is, and its waits are counted in a part of their own."""
    from simulated_gpu import ACTIVE, SimulatedGpu

    gpu = SimulatedGpu()
    gpu.operations = 1  # a test wants some, which nothing counts here
    ACTIVE.append(gpu)
    try:
        yield gpu
    finally:
        ACTIVE.remove(gpu)


class Outcomes:
    """A plugin of pytest that counts how tests end."""

    def __init__(self) -> None:
        self.passed, self.skipped = 0, 0
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(Path(report.nodeid).name)
        self.skipped += report.skipped
        self.passed += report.passed and report.when == "call"
