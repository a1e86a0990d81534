"""Measures contenders side by side: round after round, each in turn, medians and ratios, a table and a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import torch

from distill.files.atomic import write_json
from distill.files.provenance import collect_provenance

Contender = Callable[[], int]  # does its work once and returns how many items that was


def arguments(description: str, rounds: int = 5, devices: tuple[str, ...] = ("cpu",)) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds msmarco-dl and questions")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}), help="each number of cores in turn")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--device", choices=devices, default="cpu")
    given = parser.parse_args()
    if given.device == "cuda":
        given.threads = given.threads[-1:]  # the device does the work
    return given


def threaded(given: argparse.Namespace) -> Iterator[tuple[int, str]]:
    """Each number of threads, set, and how a row says it."""
    for threads in given.threads:
        torch.set_num_threads(threads)
        yield threads, given.device if given.device != "cpu" else f"{threads} thread{'s' * (threads > 1)}"


def measure(
    contenders: Mapping[str, Contender], given: argparse.Namespace, unit: str, setting: str, peer: str | None, bare: str | None = None
) -> list[dict[str, Any]]:
    """Rows of items per second of wall clock and of CPU; each round runs every contender, so that noise meets them alike."""
    rates: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in contenders}
    for contender in contenders.values():
        contender()  # warm-up
    for _ in range(given.rounds):
        for name, contender in contenders.items():
            items, wall, cpu = _timed(contender, given.device)
            rates[name]["wall"].append(items / wall)
            rates[name]["cpu"].append(items / cpu)
    return [
        {
            "name": f"{name}, {setting}",
            "value": statistics.median(rates[name][clock]),
            "unit": f"{unit}/{clock} s",
            "ratio_to_peer": _ratio(rates, name, peer, clock),
            "ratio_to_bare": _ratio(rates, name, bare, clock),
            "rounds": [round(rate, 2) for rate in rates[name][clock]],
        }
        for clock in (("wall", "cpu") if given.device == "cpu" else ("wall",))
        for name in contenders
    ]


def _timed(contender: Contender, device: str) -> tuple[int, float, float]:
    """Items, wall seconds (of the device's own clock where it has one) and CPU seconds."""
    cpu = time.process_time()
    if device == "cpu":
        start = time.perf_counter()
        items = contender()
        return items, time.perf_counter() - start, time.process_time() - cpu
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    items = contender()
    end.record()
    torch.cuda.synchronize()
    return items, begin.elapsed_time(end) / 1000, time.process_time() - cpu


def _ratio(rates: dict[str, dict[str, list[float]]], name: str, other: str | None, clock: str) -> float | None:
    """The median over rounds of the ratio within a round."""
    if other is None:
        return None
    return statistics.median(ours / theirs for ours, theirs in zip(rates[name][clock], rates[other][clock], strict=True))


def figure(name: str, value: float, unit: str, peer: float | None = None) -> dict[str, Any]:
    """A row that no contender stands behind; `peer` is the peer's value where more is worse."""
    return {"name": name, "value": value, "unit": unit, "ratio_to_peer": peer / value if peer else None, "ratio_to_bare": None}


def gemm_gflops(dtype: torch.dtype, device: str = "cpu", seconds: float = 1.0) -> float:
    """What a matrix product of a small transformer's shape reaches on this machine now."""
    states, weights = torch.randn(4096, 384, dtype=dtype, device=device), torch.randn(1536, 384, dtype=dtype, device=device)
    torch.nn.functional.linear(states, weights)
    start, products = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for _ in range(1 if device == "cpu" else 200):  # a GPU is not asked after each
            torch.nn.functional.linear(states, weights)
            products += 1
        if device == "cuda":
            torch.cuda.synchronize()
    return 2 * 4096 * 384 * 1536 * products / (time.perf_counter() - start) / 1e9


def peak_mb() -> float:
    """The most memory this process ever held, its memory-mapped pages included."""
    status = Path("/proc/self/status")
    if status.exists():  # the other counter begins with what the parent process held
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns in a process of its own, whose memory is then its alone."""
    with get_context("spawn").Pool(1) as process:
        return process.apply(work, arguments)


def report(
    script: str,
    given: argparse.Namespace,
    settings: dict[str, Any],
    rows: list[dict[str, Any]],
    gemm_fraction: float | None = None,
    peak_rss_mb: float | None = None,
) -> None:
    """Prints the table; writes everything as JSON where a path is given."""
    origin = collect_provenance()
    settings = {"threads": given.threads, "rounds": given.rounds, "device": given.device, **settings}
    result = {
        "script": script,
        "machine": {"processor": origin["processor"], "cores": os.cpu_count(), "gpus": origin["gpus"]},
        "versions": {"python": origin["python"], "commit": origin["commit"], **origin["packages"]},
        "settings": settings,
        "rows": rows,
        "gemm_fraction": gemm_fraction,
        "peak_rss_mb": peak_rss_mb or peak_mb(),
    }
    print(f"\n{script}  {json.dumps(settings, default=str)}  {origin['processor']}")
    for row in rows:
        ratios = [f"{row[f'ratio_to_{other}']:7.2f}x {other}" for other in ("peer", "bare") if row[f"ratio_to_{other}"]]
        print(f"  {row['name']:<54}{row['value']:>12,.5g} {row['unit']:<20}{''.join(ratios)}")
    if gemm_fraction:
        print(f"  {gemm_fraction:.0%} of the matrix product rate measured in this run")
    print(f"  peak memory {result['peak_rss_mb']:,.0f} MB", flush=True)
    if given.json:
        write_json(given.json, result)
