"""faiss indexes over stored document vectors, by inner product: built in bounded memory, tuned to a recall, saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from distill.files.device import best_device
from distill.files.progress import progress_bar
from distill.metrics.ranking import overlap
from distill.records import BadInput
from distill.vectors.search import Index, search

if TYPE_CHECKING:
    from distill.vectors.store import VectorStore

Kind = Literal["flat", "ivf", "hnsw"]

NUMBERS_PER_CHUNK = 12 << 20  # 50 MB in fp32, beside the index itself
TRAINED_ON = 39  # documents that a cluster is found from, the least that faiss calls enough
NEIGHBOURS = 32  # links a document has in each layer of an HNSW graph, twice as many in the lowest
CONSTRUCTION = 80  # candidates looked at to find them
RECALL = 0.95  # of the exact top 10, which an index is tuned to reach
SAMPLE = 500  # queries it is tuned on
LEAST_EFFORT, MOST_EFFORT = 16, 2048  # clusters or candidates looked at; a GPU takes no more, and by then exact search is near
HALF = float(np.finfo(np.float16).max)


def faiss_index(documents: VectorStore | np.ndarray, kind: Kind, queries: np.ndarray | None = None, progress: bool = False) -> Index:
    """An index of `documents` [N, D] for `search`, on the GPU where faiss has one; row i of the documents has id i.

    `flat` compares a query with every document, in fp32; `ivf` with those of the nearest of 4 sqrt(N) clusters; `hnsw` with those met on
    a walk through a graph of neighbours (arXiv 1603.09320), which stays on the CPU. The latter two keep fp16, as stores do: nothing is
    lost, and half the bytes are read. How many clusters, or how long a walk, is the least power of two that finds RECALL of the exact
    top 10 of `queries` [Q, D]: queries like those to come. Without any, some of the documents are asked, which is easier.
    Raises BadInput where faiss is missing, without documents, and on vectors that are not finite in float16.
    """
    require_faiss()
    if not len(documents):
        raise BadInput("no documents to index: encode some first")
    index = _empty(documents, kind)
    with progress_bar(total=len(documents), desc=f"index {kind}", unit=" documents", shown=progress) as bar:
        for vectors in _chunks(documents):
            index.add(vectors)
            bar.update(len(vectors))
    if kind != "flat":
        asked = _sample(documents, SAMPLE) if queries is None else queries[:SAMPLE]
        _tune(index, kind, documents, torch.from_numpy(asked))
    return index


def require_faiss() -> Any:
    """The faiss module; raises BadInput where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise BadInput("faiss is not installed: install the extra `cpu`, or `gpu`, but never both") from None
    return faiss


def save_index(index: Any, path: Path) -> None:
    """Writes an index for `faiss.read_index`, which reads it on any machine."""
    faiss = require_faiss()
    on_gpu = _gpus() and isinstance(index, faiss.GpuIndex)
    faiss.write_index(faiss.index_gpu_to_cpu(index) if on_gpu else index, str(path))


def settings(index: Any, kind: Kind) -> dict[str, int]:
    """What was chosen for this index, by faiss's names."""
    if kind == "ivf":
        return {"nlist": index.nlist, "nprobe": index.nprobe}
    return {"M": NEIGHBOURS, "efConstruction": CONSTRUCTION, "efSearch": index.hnsw.efSearch} if kind == "hnsw" else {}


def _empty(documents: VectorStore | np.ndarray, kind: Kind) -> Any:
    """An index ready to take documents; an IVF index has found its clusters."""
    faiss = require_faiss()
    count, width = documents.shape
    if kind == "flat":
        return _placed(faiss.IndexFlatIP(width))
    stored, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(width, stored, NEIGHBOURS, metric)
        index.hnsw.efConstruction = CONSTRUCTION
        index.train(_sample(documents, 1))  # fp16 has nothing to learn, but faiss asks for it
        return index  # not placed: faiss walks graphs on the CPU only
    lists = max(1, min(round(4 * count**0.5), count // TRAINED_ON))
    # not by residual: a document's distance to its cluster would be rounded anew
    index = _placed(faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(width), width, lists, stored, metric, False))
    index.train(_sample(documents, lists * TRAINED_ON))
    return index


def _placed(index: Any) -> Any:
    faiss = require_faiss()
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), best_device().index or 0, index) if _gpus() else index


def _gpus() -> int:
    faiss = require_faiss()
    # knn_gpu and other names of the GPU build exist without one too
    return faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0


def _tune(index: Any, kind: Kind, documents: VectorStore | np.ndarray, queries: torch.Tensor) -> None:
    """Doubles the effort of a search until it finds RECALL of the exact top 10 of `queries` [Q, D], or can do no more."""
    _, exact = search(queries.to(best_device()), documents, 10)
    most = min(MOST_EFFORT, index.nlist) if kind == "ivf" else MOST_EFFORT
    effort = min(LEAST_EFFORT, most)
    while True:
        if kind == "ivf":
            index.nprobe = effort
        else:
            index.hnsw.efSearch = effort
        _, rows = search(queries, index, 10)
        if effort == most or overlap(exact.cpu(), rows, 10).mean() >= RECALL:
            return
        effort = min(2 * effort, most)


def _sample(documents: VectorStore | np.ndarray, most: int) -> np.ndarray:
    """Up to `most` documents [n, D] float32 drawn without repetition, the same ones each time, in row order."""
    rows = np.sort(np.random.default_rng(0).permutation(len(documents))[:most])
    return _checked(documents[rows] if isinstance(documents, np.ndarray) else documents.take(rows), rows)


def _chunks(documents: VectorStore | np.ndarray) -> Iterator[np.ndarray]:
    """All documents [n, D] float32, some at a time."""
    size = max(1, NUMBERS_PER_CHUNK // documents.shape[1])
    return (_checked(documents[start : start + size], range(start, start + size)) for start in range(0, len(documents), size))


def _checked(vectors: np.ndarray, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """`vectors` in float32; refuses what float16 cannot hold, by its row of the documents."""
    for place in np.flatnonzero(~(np.abs(vectors) <= HALF).all(axis=1))[:1]:
        raise BadInput(f"document vectors: row {rows[place]} is not finite in float16: encode it again")
    return vectors.astype(np.float32)
