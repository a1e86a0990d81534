"""Whether the card computes what the CPU does: the tests of tests/gpu, search, losses and their gradients, trainings, NCCL with one rank."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from card.device import TESTS, Card
from card.report import Report
from card.training import Stopwatch, train
from card.world import World
from torch import Tensor

import distill
from distill.records import Encoded

NEAR = 1e-5  # how far fp32 results of two devices may lie apart, relative to 1
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
    checks = {
        "search": check_search,
        "losses": check_losses,
        "training": check_training,
        "NCCL, one rank": check_nccl,
        "tests": check_tests,
    }
    for name, check in checks.items():
        report.add("correctness", name, "result", run_check(check, card, world), "")


def run_check(check: Any, card: Card, world: World) -> str:
    """What a check found, in words; an error of one does not keep the others from running."""
    try:
        return check(card, world)
    except Exception as error:
        return f"FAILED: {type(error).__name__}: {str(error)[:300]}"


@torch.no_grad()
def check_search(card: Card, world: World) -> str:
    """Ids and their order against a stable sort in float64 on the CPU: of small integers, whose scores are exact and often equal."""
    generator = torch.Generator().manual_seed(0)
    count, k = (300, 7) if card.simulated else (60_000, 100)
    queries = torch.randint(-3, 4, (33, 16), generator=generator).float()
    documents = torch.randint(-3, 4, (count, 16), generator=generator).half()
    exact = queries.double() @ documents.double().T
    rows = exact.sort(dim=1, descending=True, stable=True).indices[:, :k]  # equal scores: the lower row first
    places = {"streamed": documents.numpy(), "pinned": card.pin(documents), "resident": documents.to(card.device)}
    for name, stored in places.items():
        scores, found = distill.search(queries.to(card.device), stored, k)
        if not torch.equal(found.cpu(), rows):
            return f"FAILED: {name}: {int((found.cpu() != rows).sum()):,} of {rows.numel():,} places hold another document"
        if not torch.equal(scores.cpu().double(), exact.gather(1, rows)):
            return f"FAILED: {name}: other scores"
    return f"equal: {rows.numel():,} places, streamed, pinned and resident"


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
    """The same steps in fp32 on both devices end at the same weights, as near as rounding lets them."""
    layers, batch_size = world.sizes.student_layers[0], world.sizes.batches[0]
    students = []
    for accelerator in ("gpu", "cpu"):
        watch = Stopwatch(1, 3)
        options = {"accelerator": accelerator, "precision": "32-true"}
        module, _ = train(world, f"same {accelerator}", layers, batch_size, world.sizes.candidates[-1], watch, **options)
        students.append(torch.cat([parameter.detach().cpu().flatten() for parameter in module.encoder.parameters()]))
    distance = float((students[0] - students[1]).abs().max())
    # Adam's first steps are as long where a gradient is tiny as where it is large: only most weights say something
    share = float(((students[0] - students[1]).abs() < 1e-4).float().mean())
    verdict = "" if share > 0.999 else "FAILED: "
    return f"{verdict}{share:.2%} of the weights within 1e-4 of the CPU's after {watch.needed} steps, all within {distance:.1g}"


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
    return f"sums, gathers, and trains within DDP ({'finished' if run.folder.finished else 'UNFINISHED'})"


def check_tests(card: Card, world: World) -> str:
    """The tests that every machine runs on a simulated device run on this card."""
    if card.simulated:
        return "needs a card: here they run on the simulated one, by pytest tests/gpu"
    try:
        import pytest
    except ImportError:
        return "not run: needs pytest"
    outcomes = Outcomes()
    pytest.main([str(TESTS / "gpu"), "-q", "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent)], plugins=[outcomes])
    failed = ", ".join(outcomes.failed)
    return f"FAILED: {failed}"[:600] if failed else f"{outcomes.passed} passed, {outcomes.skipped} skipped"


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
