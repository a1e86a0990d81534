"""Measures contenders side by side: round after round, each in turn, medians and ratios, a table and a JSON file."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from distill.artefacts import write_json
from distill.provenance import provenance

Contender = Callable[[], int]  # does its work once and returns how many items that was


def arguments(description: str, rounds: int = 5) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds msmarco-dl and questions")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=rounds)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given


def measure(contenders: Mapping[str, Contender], rounds: int, unit: str, peer: str, bare: str | None = None) -> list[dict[str, Any]]:
    """Rows of items per wall second and per CPU second; each round runs every contender, so that noise meets them alike."""
    rates: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in contenders}
    for contender in contenders.values():
        contender()  # warm-up
    for _ in range(rounds):
        for name, contender in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            items = contender()
            rates[name]["wall"].append(items / (time.perf_counter() - wall))
            rates[name]["cpu"].append(items / (time.process_time() - cpu))
    return [
        {
            "name": name,
            "value": statistics.median(rates[name][clock]),
            "unit": f"{unit}/{clock} s",
            "rounds": [round(rate, 2) for rate in rates[name][clock]],
            "ratio_to_peer": _ratio(rates, name, peer, clock),
            "ratio_to_bare": _ratio(rates, name, bare, clock) if bare else None,
        }
        for clock in ("wall", "cpu")
        for name in contenders
    ]


def _ratio(rates: dict[str, dict[str, list[float]]], name: str, other: str, clock: str) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(ours / theirs for ours, theirs in zip(rates[name][clock], rates[other][clock], strict=True))


def gemm_gflops(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """What a matrix product of a small transformer's shape reaches on this machine now."""
    states, weights = torch.randn(4096, 384, dtype=dtype), torch.randn(1536, 384, dtype=dtype)
    torch.nn.functional.linear(states, weights)
    start, products = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        torch.nn.functional.linear(states, weights)
        products += 1
    return 2 * 4096 * 384 * 1536 * products / (time.perf_counter() - start) / 1e9


def report(
    script: str, settings: dict[str, Any], rows: list[dict[str, Any]], path: Path | None, gemm_fraction: float | None = None
) -> None:
    """Prints the table; writes everything as JSON where a path is given."""
    origin = provenance()
    result = {
        "script": script,
        "machine": {key: origin[key] for key in ("processor", "threads", "gpus")},
        "versions": {"python": origin["python"], **origin["packages"]},
        "settings": settings,
        "rows": rows,
        "gemm_fraction": gemm_fraction,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(f"\n{script}  {json.dumps(settings, default=str)}  {origin['processor']}")
    for row in rows:
        bare = f"{row['ratio_to_bare']:6.2f}x bare" if row["ratio_to_bare"] else ""
        print(f"  {row['name']:<28}{row['value']:>12,.1f} {row['unit']:<18}{row['ratio_to_peer']:6.2f}x peer {bare}")
    if gemm_fraction:
        print(f"  {gemm_fraction:.0%} of the matrix product rate measured in this run")
    if path:
        write_json(path, result)
