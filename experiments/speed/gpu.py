"""Checks and measures everything on a GPU, in minutes: `python experiments/speed/gpu.py --out gpu.json --minutes 9`.

Beside torch, pytorch-lightning, transformers and what these bring it needs the wheels jsonargparse, docstring-parser, typeshed-client,
tenacity and xxhash, and pytest for the tests of tests/gpu; most machines have httpx, jinja2, scipy, rich, certifi and pyyaml. Nothing is
downloaded: models have random weights of the shapes of all-MiniLM-L6-v2, BERT-base and T5-small, texts are random words.

Each part has its own limit of time and a process of its own, so that an error on the card ends it alone, and each figure is in the file
as soon as it is there. Without a card, or with --simulate, everything runs at tiny sizes on the simulated device of the tests.
`gpu.py --table gpu.json` prints the tables of RESULT.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # torch finds cards without starting CUDA, which forked processes could not use
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import torch
from card import correctness, encode, generate, machine, search, teach, training, waits
from card.device import open_card
from card.report import Report, find_failures, find_rates, make_tables
from card.sizes import CARD, TINY
from card.world import World

import distill

MEASURES = {
    "machine": machine.measure,
    "correctness": correctness.measure,
    "waits": waits.measure,
    "training": training.measure,
    "search": search.measure,
    "encode": encode.measure,
    "teach": teach.measure,
    "generate": generate.measure,
}
# part: how much of the time it may take; what one leaves goes to those after it
PARTS = {"machine": 1, "correctness": 8, "waits": 4, "training": 14, "search": 8, "encode": 4, "teach": 4, "generate": 3}
PREPARE = {"prepare": 8}
NO_CARD = 3  # exit code


def measure_part(part: str, simulate: bool, folder: Path, report: Report) -> None:
    """Runs a part in this process."""
    world = World(folder, TINY if simulate else CARD)
    if part in PREPARE:
        return world.prepare()
    if simulate:
        distill.load_encoder(str(world.teacher))  # transformers keeps what it finds in torch when it first loads a model
    with open_card(simulate) as card:
        MEASURES[part](card, world, report)


def run_part(part: str, simulate: bool, folder: Path, report: Report) -> None:
    """The same in a process of its own; its exit code is 1 after an error, which the report then has."""
    start = time.perf_counter()
    try:
        measure_part(part, simulate, folder, report)
    except Exception as error:
        traceback.print_exc()
        report.end_part(part, f"failed: {type(error).__name__}: {str(error)[:500]}", time.perf_counter() - start)
        sys.exit(1)


def run_limited(method: str, part: str, simulate: bool, folder: Path, report: Report, limit: float) -> None:
    """Runs a part in a new process, and ends it after `limit` seconds."""
    start = time.perf_counter()
    process = get_context(method).Process(target=run_part, args=(part, simulate, folder, report))  # type: ignore[attr-defined]
    process.start()
    process.join(limit)
    seconds = time.perf_counter() - start
    if process.is_alive():
        process.kill()
        process.join()
        report.end_part(part, f"stopped at its limit of {limit:.0f} s", seconds)
    elif process.exitcode == 0:
        report.end_part(part, "done", seconds)
    elif part not in report.read()["parts"]:  # it could not say why
        report.end_part(part, f"died with code {process.exitcode}", seconds)


def run_all(parts: dict[str, int], method: str, simulate: bool, report: Report, minutes: float) -> None:
    """Runs parts one after the other, each within its share of the time that is left."""
    _ = distill.train, distill.encode, distill.search  # import what every part's process would have to
    end, shares = time.perf_counter() + 60 * minutes, list(parts.values())
    with tempfile.TemporaryDirectory() as folder:
        for number, part in enumerate(parts):
            limit = max(1.0, (end - time.perf_counter()) * shares[number] / sum(shares[number:]))
            print(f"{part}: at most {limit:.0f} s", flush=True)
            run_limited(method, part, simulate, Path(folder), report, limit)
            print(f"{part}: {json.dumps(report.read()['parts'][part])}", flush=True)


def try_card() -> None:
    """Ends this process with NO_CARD where there is none; an error says that it cannot be used from here."""
    if not torch.cuda.is_available():
        sys.exit(NO_CARD)
    torch.zeros(1, device="cuda")


def find_method() -> str | None:
    """How to start processes that use the card: fork, which is quick, or spawn, where this one has started CUDA already; None: no card."""
    for method in ("fork", "spawn"):
        process = get_context(method).Process(target=try_card)  # type: ignore[attr-defined]
        process.start()
        process.join()
        if process.exitcode in (0, NO_CARD):
            return None if process.exitcode else method
    raise SystemExit("there is a card, and torch cannot use it: see the error above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="all by default")
    parser.add_argument("--simulate", action="store_true", help="on the simulated device, at tiny sizes")
    parser.add_argument("--table", type=Path, help="print the tables of such a file, and measure nothing")
    given = parser.parse_args()
    if given.table:
        try:
            return print(make_tables(json.loads(given.table.read_text())))
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"--table: {given.table}: no file that this script wrote ({type(error).__name__}: {error})")
    if given.out is None:
        parser.error("--out: name the file to write")
    method = None if given.simulate else find_method()
    if method is None and not given.simulate:
        print("no card here: everything runs at tiny sizes on a simulated one, whose figures mean nothing", flush=True)
    given.out.unlink(missing_ok=True)
    report = Report(given.out)
    report.write(simulated=method is None, minutes=given.minutes)
    parts = PREPARE | {part: PARTS[part] for part in PARTS if part in given.parts}
    run_all(parts, method or "fork", method is None, report, given.minutes)
    if method is not None:
        report.write(rates=find_rates(report.read()))
    print(f"\n{make_tables(report.read())}")
    failures = find_failures(report.read())
    if failures:
        sys.exit("\n".join(["", *failures]))


if __name__ == "__main__":
    main()
