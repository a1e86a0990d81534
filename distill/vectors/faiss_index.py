"""faiss indexes over stored document vectors, by inner product: built in bounded memory, tuned to a recall, saved."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from distill.files.device import best_device
from distill.files.extras import install_hint
from distill.files.progress import log, progress_bar
from distill.metrics.ranking import overlap
from distill.records import BadInput, one_line
from distill.vectors.search import FaissIndex, search
from distill.vectors.store_plan import HALF_MAX

if TYPE_CHECKING:
    from distill.vectors.store import VectorStore

    Documents = VectorStore | np.ndarray

Kind = Literal["flat", "ivf", "hnsw"]

NUMBERS_PER_CHUNK = 12 << 20  # 50 MB in fp32, beside the index itself
BYTES_PER_WRITE = 1 << 20
DOCUMENTS_PER_CLUSTER = 39  # to train the clusters on; faiss warns of fewer
NEIGHBOURS = 32  # links a document has in each layer of an HNSW graph, twice as many in the lowest
CONSTRUCTION = 80  # candidates looked at to find those neighbours
TARGET_RECALL = 0.95  # share of the exact top 10 that an index is tuned to find
TUNING_QUERIES = 500
# clusters or candidates looked at for a query; faiss takes no more on a GPU, and more is nearly as slow as exact search
LEAST_EFFORT, MOST_EFFORT = 16, 2048
PACKAGES = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")  # that all write one folder, `faiss`
SECONDS_OF_TRIAL = 120
# a program that finds each of 8 documents on the GPU whose number it is given
TRIAL = """
import sys, numpy, faiss
resources, documents = faiss.StandardGpuResources(), numpy.eye(8, dtype=numpy.float32)
resources.noTempMemory()
index = faiss.index_cpu_to_gpu(resources, int(sys.argv[1]), faiss.IndexFlatIP(8))
index.add(documents)
assert index.search(documents, 1)[1].ravel().tolist() == list(range(8)), "it finds other documents than were added"
"""


def faiss_index(documents: Documents, kind: Kind, queries: np.ndarray | None = None, progress: bool = False) -> FaissIndex:
    """Builds an index of documents for `search`, on the GPU where faiss has one; row i of the documents has id i.

    `flat` compares a query with every document, in fp32; `ivf` with those of the nearest of 4 sqrt(N) clusters; `hnsw` with those met on
    a walk through a graph of neighbours (arXiv 1603.09320), on the CPU only. The latter two hold fp16, as stores do: nothing is lost,
    and half the bytes are read. The number of clusters, or the length of the walk, is doubled until TARGET_RECALL of the exact top 10
    of the queries is found.

    Args:
        documents: [N, D].
        kind: flat, ivf or hnsw.
        queries: [Q, D] queries like those to come; without any, some of the documents are searched for, which is easier.
        progress: whether to show a progress bar.

    Raises:
        BadInput: faiss is missing, there is no document, or a vector is not finite in float16.
    """
    require_faiss()
    if not len(documents):
        raise BadInput("no documents to index: encode some first")
    index = _new_index(documents, kind)
    with progress_bar(total=len(documents), desc=f"index {kind}", unit=" documents", shown=progress) as bar:
        for vectors in _read_chunks(documents):
            index.add(vectors)
            bar.update(len(vectors))
    if kind != "flat":
        sample = _sample_documents(documents, TUNING_QUERIES) if queries is None else queries[:TUNING_QUERIES]
        _tune(index, kind, documents, torch.from_numpy(sample))
    return index


def require_faiss() -> Any:
    """Returns the faiss module; raises BadInput where it is not installed, or is two packages in one."""
    installed = [name for name in PACKAGES if _is_installed(name)]
    if len(installed) > 1:
        names = " and ".join(installed)
        fix = f"pip uninstall {' '.join(installed)}, then {install_hint('cpu')}"
        raise BadInput(f"{names} are installed, which write into one folder and break each other: {fix}")
    try:
        import faiss
    except ImportError:
        raise BadInput(f"faiss is not installed: {install_hint('cpu')}") from None
    return faiss


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def save_index(index: Any, path: Path) -> None:
    """Writes an index for `faiss.read_index`, which reads it on any machine; OSError where the disk is full."""
    faiss = require_faiss()
    if _has_gpus() and isinstance(index, faiss.GpuIndex):
        index = faiss.index_gpu_to_cpu(index)
    # faiss's own writer does not report what the disk refuses when the file is closed
    with open(path, "wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, BYTES_PER_WRITE))


def describe_settings(index: Any, kind: Kind) -> dict[str, int]:
    """Returns the settings that were chosen for this index, by faiss's names."""
    if kind == "ivf":
        return {"nlist": index.nlist, "nprobe": index.nprobe}
    if kind == "hnsw":
        return {"M": NEIGHBOURS, "efConstruction": CONSTRUCTION, "efSearch": index.hnsw.efSearch}
    return {}


def _new_index(documents: Documents, kind: Kind) -> Any:
    """Makes an index without documents; one that has clusters is trained."""
    faiss = require_faiss()
    count, width = documents.shape
    if kind == "flat":
        return _to_gpu(faiss.IndexFlatIP(width))
    number_format, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(width, number_format, NEIGHBOURS, metric)
        index.hnsw.efConstruction = CONSTRUCTION
        index.train(_sample_documents(documents, 1))  # faiss requires it, though fp16 has nothing to learn
        return index  # not moved to a GPU: faiss walks graphs on the CPU only
    clusters = max(1, min(round(4 * count**0.5), count // DOCUMENTS_PER_CLUSTER))
    by_residual = False  # True would store differences to cluster centres, and round them again
    index = _to_gpu(faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(width), width, clusters, number_format, metric, by_residual))
    index.train(_sample_documents(documents, clusters * DOCUMENTS_PER_CLUSTER))
    return index


def _to_gpu(index: Any) -> Any:
    """Moves the index to the GPU that this process computes on, where faiss can search there."""
    device = best_device()
    if device.type != "cuda" or not _has_gpus():
        return index
    reason = try_gpu(device.index or 0)
    if reason:
        log.warning(f"faiss cannot search on {device} ({reason}): the index is made on the CPU")
        return index
    faiss = require_faiss()
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)


@cache
def try_gpu(number: int) -> str | None:
    """Searches a small index on a GPU in a process of its own; returns why that failed, or None.

    On a card that faiss has no code for, and on other errors of CUDA, faiss ends its process.
    """
    command = [sys.executable, "-P", "-c", TRIAL, str(number)]  # -P: a faiss.py in the working folder is not faiss
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS_OF_TRIAL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return one_line(error, 150)
    if not ended.returncode:
        return None
    last = ended.stderr.strip().splitlines() or [f"a trial ended with code {ended.returncode}"]
    return one_line(last[-1], 300)


def _has_gpus() -> bool:
    faiss = require_faiss()
    # knn_gpu and other names of the GPU build exist without one too
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def _tune(index: Any, kind: Kind, documents: Documents, queries: torch.Tensor) -> None:
    """Doubles the effort of a search until it finds TARGET_RECALL of the exact top 10 of `queries` [Q, D], or can do no more."""
    _, exact = search(queries.to(best_device()), documents, 10)
    most = min(MOST_EFFORT, index.nlist) if kind == "ivf" else MOST_EFFORT
    effort = min(LEAST_EFFORT, most)
    while True:
        if kind == "ivf":
            index.nprobe = effort
        else:
            index.hnsw.efSearch = effort
        _, rows = search(queries, index, 10)
        if effort == most or overlap(exact.cpu(), rows, 10).mean() >= TARGET_RECALL:
            return
        effort = min(2 * effort, most)


def _sample_documents(documents: Documents, most: int) -> np.ndarray:
    """Draws up to `most` documents [n, D] float32 without repetition, the same ones each time, in row order."""
    rows = np.sort(np.random.default_rng(0).permutation(len(documents))[:most])
    vectors = documents[rows] if isinstance(documents, np.ndarray) else documents.take(rows)
    return _as_float32(vectors, rows)


def _read_chunks(documents: Documents) -> Iterator[np.ndarray]:
    """Yields all documents in row order, [n, D] float32 at a time."""
    size = max(1, NUMBERS_PER_CHUNK // documents.shape[1])
    for start in range(0, len(documents), size):
        yield _as_float32(documents[start : start + size], range(start, start + size))


def _as_float32(vectors: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Converts `vectors` [n, D] to float32; refuses what float16 cannot hold, by its row of the documents."""
    finite = (np.abs(vectors) <= HALF_MAX).all(axis=1)  # NaN compares as False
    if not finite.all():
        raise BadInput(f"document vectors: row {rows[int(np.argmin(finite))]} is not finite in float16: encode it again")
    return vectors.astype(np.float32)
