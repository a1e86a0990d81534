"""MS MARCO's size, 8.8 million vectors of 384 numbers: a store's building, opening, look-ups, search and memory; one rank and two.

Each part runs in a process of its own. FOLDER needs 7 GB and keeps the store; building goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpora import TEACHER, WIDTH
from harness import alone, figure, peak_mb, report

from distill.encoders.maker import Maker
from distill.files.device import fp32_products, has_fast_bf16
from distill.teachers.encode import encode
from distill.teachers.import_vectors import import_vectors
from distill.texts.ids import Ids
from distill.texts.sources import MsMarcoTsv
from distill.vectors.search import search
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

ROWS, TOP = 8_841_823, 100
LOOKUP = 256  # rows a training batch asks for


def build(folder: Path, rows: int, seconds: float) -> tuple[int, float]:
    """Shards written, until all are or time is up, and the seconds it took; random unit vectors."""
    width = len(str(rows))
    numbers = np.arange(rows)
    ids = np.stack([numbers // 10**digit % 10 + ord("0") for digit in range(width - 1, -1, -1)], 1).astype(np.uint8)
    writer = StoreWriter(folder / "documents", Ids(ids.reshape(-1).view(f"S{width}")), WIDTH, Maker("random", "r"), None)
    start, done = time.perf_counter(), 0
    for shard, held in writer.missing_shards():
        if time.perf_counter() - start > seconds:
            break
        vectors = torch.randn(len(held), WIDTH, generator=torch.Generator().manual_seed(shard))
        writer.write_shard(shard, torch.nn.functional.normalize(vectors, dim=1).numpy())
        done += 1
    writer.finish()
    return done, time.perf_counter() - start


def seconds_to_open(folder: Path) -> float:
    """From a path to the first vector and its id."""
    start = time.perf_counter()
    store = VectorStore(folder / "documents")
    store[:1], store.ids[0], store.take(np.array([len(store) - 1]))
    return time.perf_counter() - start


def row_times(folder: Path, batches: int) -> tuple[list[float], float]:
    """Milliseconds of each look-up of random rows, after a first pass over the store, and the process's peak memory."""
    store, random = VectorStore(folder / "documents"), np.random.default_rng(0)
    for start in range(0, len(store), 1 << 17):
        store[start : start + (1 << 17)]
    times = []
    for _ in range(batches):
        rows, start_time = random.integers(0, len(store), LOOKUP), time.perf_counter()
        store.take(rows)
        times.append((time.perf_counter() - start_time) * 1000)
    return times, peak_mb()


def read_rate(folder: Path, rows: int) -> float:
    """GB/s at which `rows` of the store come out of the page cache, in runs as the search reads them."""
    store, step = VectorStore(folder / "documents"), 32_768
    store[:rows]
    start = time.perf_counter()
    for first in range(0, rows, step):
        store[first : min(first + step, rows)]
    return rows * WIDTH * 2 / (time.perf_counter() - start) / 1e9


def search_times(folder: Path, queries: int, share: tuple[int, int], rows: int, threads: int) -> dict[str, float]:
    """One rank's search with its share of the queries, over the first `rows` documents, beside what binds it."""
    torch.set_num_threads(threads)
    store = VectorStore(folder / "documents")
    asked = torch.randn(queries, WIDTH, generator=torch.Generator().manual_seed(1))[share[0] :: share[1]]
    gigabytes = read_rate(folder, min(rows, 500_000))
    dtype = torch.bfloat16 if has_fast_bf16("cpu") else torch.float32  # of most of the search's products
    with fp32_products(torch.device("cpu")):
        product, exact = product_gflops(len(asked), dtype), product_gflops(len(asked), torch.float32)
    start = time.perf_counter()
    search(asked, Head(store, rows), TOP)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    reading, work = rows * WIDTH * 2 / gigabytes / 1e9, 2 * len(asked) * rows * WIDTH / 1e9
    bounds = {"bound": max(reading, work / product), "fp32 bound": max(reading, work / exact)}
    return {"seconds": seconds, **bounds, "GB/s": gigabytes, "GFLOP/s": product, "fp32 GFLOP/s": exact, "MB": peak_mb()}


class Head:
    """The first rows of a store, as a store of its own to search."""

    def __init__(self, store: VectorStore, rows: int):
        self.store, self.shape = store, (min(rows, len(store)), WIDTH)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.store[rows]


def product_gflops(queries: int, dtype: torch.dtype) -> float:
    """Rate of the product that a search is made of: the queries with a chunk of documents, nothing else."""
    asked, chunk = torch.randn(queries, WIDTH).to(dtype), torch.randn(32_768, WIDTH).to(dtype)
    out = torch.empty(queries, 32_768, dtype=dtype)
    torch.mm(asked, chunk.T, out=out)
    start, products = time.perf_counter(), 0
    while time.perf_counter() - start < 2:
        torch.mm(asked, chunk.T, out=out)
        products += 1
    return products * 2 * queries * 32_768 * WIDTH / (time.perf_counter() - start) / 1e9


def together(work: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """What `work` returns for each, all at once, each in a process of its own."""
    with get_context("spawn").Pool(len(calls)) as processes:
        return processes.starmap(work, calls, chunksize=1)


def train_seconds(folder: Path, ranks: int, steps: int) -> float:
    """Wall time of `distill train` on so many ranks, 64 queries each: a student of two layers."""
    run = Path(tempfile.mkdtemp(dir=folder))
    texts = ["--data.source", "MsMarcoTsv", "--data.source.root", folder / "texts", "--data.store", folder / "store"]
    model = ["--model.student", "StudentFromTeacher", "--model.student.layers", "[0, 5]", "--model.losses"]
    model += ['{"query_matching": {"class_path": "QueryMatching"}}']
    trainer = ["--trainer.accelerator", "cpu", "--trainer.devices", ranks, "--trainer.strategy", "ddp" if ranks > 1 else "auto"]
    trainer += ["--trainer.max_steps", steps, "--trainer.max_epochs", 100, "--trainer.limit_val_batches", 0]
    command = [sys.executable, "-m", "distill", "train", *model, *texts, *trainer, "--out", run / "run"]
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - start


def small_world(folder: Path) -> None:
    """Texts of ten words and their teacher's store."""
    random, words = (
        np.random.default_rng(0),
        [f"{a}{b}" for a in ("river", "stone", "bread", "music") for b in ("", "s", " of", " in", " to")],
    )
    (folder / "texts").mkdir(parents=True)
    for name, count in (("collection.tsv", 64), ("queries.train.tsv", 4096), ("queries.dev.tsv", 64)):
        lines = (f"{name[8]}{row}\t{' '.join(random.choice(words, 10))} {row}\n" for row in range(count))
        (folder / "texts" / name).write_text("".join(lines))
    encode(TEACHER, MsMarcoTsv(str(folder / "texts")), str(folder / "store"))


def weak_scaling(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Twice the work on twice the processes of one thread, against the work of one."""
    share = [(given.folder, given.queries, (0, 1), given.scaling_rows, 1)]
    one, two = (max(result["seconds"] for result in together(search_times, calls)) for calls in (share, share * 2))
    rows = [figure("search, weak scaling 1 to 2 ranks", one / two, "of perfect")]
    with tempfile.TemporaryDirectory() as name:
        small_world(Path(name))
        seconds = {(ranks, steps): train_seconds(Path(name), ranks, steps) for ranks in (1, 2) for steps in (20, 120)}
    rates = {ranks: 100 / (seconds[ranks, 120] - seconds[ranks, 20]) for ranks in (1, 2)}
    rows += [
        figure(f"training, {ranks} rank{'s' * (ranks > 1)} of 64 queries", rate * 64 * ranks, "queries/s") for ranks, rate in rates.items()
    ]
    return [*rows, figure("training, weak scaling 1 to 2 ranks", rates[2] / rates[1], "of perfect")]


def built(given: argparse.Namespace) -> list[dict[str, Any]]:
    shards, seconds = build(given.folder, given.rows, given.seconds)
    if not shards:
        return []
    size = sum(path.stat().st_size for path in given.folder.rglob("*.npy")) / 1e9
    return [figure(f"build, {shards} shards of random vectors", seconds / shards, "s a shard"), figure("store on disk", size, "GB")]


def opened(given: argparse.Namespace) -> list[dict[str, Any]]:
    return [figure("open, to the first vector and id", alone(seconds_to_open, given.folder), "s")]


def looked_up(given: argparse.Namespace) -> list[dict[str, Any]]:
    times, memory = alone(row_times, given.folder, given.batches)
    rows = [figure(f"{LOOKUP} random rows, p{q}", float(np.percentile(times, q)), "ms") for q in (50, 95)]
    return [*rows, figure(f"{given.batches} such look-ups, peak memory", memory, "MB")]


def searched(given: argparse.Namespace) -> list[dict[str, Any]]:
    found = alone(search_times, given.folder, given.queries, (0, 1), given.rows, os.cpu_count() or 1)
    name = f"search, {given.queries:,} queries x {given.rows:,}"
    return [
        figure(name, found["seconds"], "s"),
        figure("least time for its reading and its products as it does them", found["bound"] / found["seconds"], "of the time"),
        figure("least time for its reading and fp32 products", found["fp32 bound"] / found["seconds"], "of the time"),
        figure("page cache to search", found["GB/s"], "GB/s"),
        figure("product of these shapes", found["GFLOP/s"], "GFLOP/s"),
        figure("fp32 product of these shapes", found["fp32 GFLOP/s"], "GFLOP/s"),
        figure(f"{name}, peak memory", found["MB"], "MB"),
    ]


def import_seconds(folder: Path, rows: int) -> tuple[float, float]:
    """Wall and CPU seconds of `distill import` of a .npy of random vectors in fp32, its file of ids beside it."""
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, WIDTH))
    for start in range(0, rows, 1 << 16):
        vectors[start : start + (1 << 16)] = np.random.default_rng(start).random((min(1 << 16, rows - start), WIDTH), np.float32)
    vectors.flush()
    (folder / "ids.txt").write_text("\n".join(map(str, range(rows))))
    start_time, cpu = time.perf_counter(), time.process_time()
    import_vectors(str(folder / "vectors.npy"), str(folder / "store"), ids=str(folder / "ids.txt"), name="random")
    return time.perf_counter() - start_time, time.process_time() - cpu


def imported(given: argparse.Namespace) -> list[dict[str, Any]]:
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        seconds, cpu = alone(import_seconds, Path(name), given.scaling_rows)
    what = f"import of {given.scaling_rows:,} vectors"
    return [figure(what, seconds, "s"), figure(f"{what}, of the CPU", cpu, "s")]


PARTS = {"import": imported, "build": built, "open": opened, "rows": looked_up, "search": searched, "ranks": weak_scaling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the store is, or comes")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--scaling_rows", type=int, default=1_000_000, help="documents of the import and of the weak scaling of search")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="building stops after so many; the next start goes on")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    given.threads, given.rounds, given.device = os.cpu_count(), 1, "cpu"
    figures = [row for part in given.parts for row in PARTS[part](given)]
    report("scale", given, {"rows": given.rows, "width": WIDTH, "queries": given.queries, "k": TOP}, figures)


if __name__ == "__main__":
    main()
