"""Opens vectors in a flat faiss index on disk, which holds them unchanged, with or without ids of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from distill.records import BadInput
from distill.texts.ids import Ids
from distill.vectors.vector_files import GivenIds, VectorFiles, read_ids

LENGTHS_SAMPLED = 1000


def open_flat_index(path: str, ids: GivenIds) -> VectorFiles:
    """Opens a flat faiss index.

    Args:
        path: as the user named it.
        ids: text file with an id a line, or a list; an index with its own ids (IndexIDMap) needs none.
    """
    try:
        import faiss
    except ImportError:
        raise BadInput(f"{path}: neither .npy nor .parquet, and faiss, to read an index, is not installed: pip install faiss-cpu") from None
    try:
        # the flag maps the file into memory where this release of faiss can
        whole: Any = faiss.read_index(path, getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    except RuntimeError:
        raise BadInput(f"{path}: neither .npy nor .parquet nor an index that faiss reads: name one of them") from None
    has_ids = isinstance(whole, faiss.IndexIDMap)
    index = faiss.downcast_index(whole.index) if has_ids else whole
    if not isinstance(index, faiss.IndexFlat):
        kind = type(index).__name__
        raise BadInput(f"{path}: {kind} has no exact vectors to give: expected IndexFlatIP, IndexFlatL2 or an IndexIDMap of one")
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        _refuse_unlike_lengths(path, index)
    use_own_ids = has_ids and ids is None
    all_ids = _numbers_to_ids(faiss.vector_to_array(whole.id_map)) if use_own_ids else read_ids(path, ids)

    def read(size: int) -> Iterator[np.ndarray]:
        owner = whole  # keeps the memory of `index` alive, which belongs to it
        return (index.reconstruct_n(start, min(size, owner.ntotal - start)) for start in range(0, owner.ntotal, size))

    return VectorFiles(path, index.ntotal, index.d, all_ids, read)


def _numbers_to_ids(numbers: np.ndarray) -> Ids:
    return Ids(np.char.encode(numbers.astype(str)))


def _refuse_unlike_lengths(path: str, index: Any) -> None:
    """Refuses an index by L2 distance unless its vectors have length 1: only then do L2 and inner product rank alike."""
    if not index.ntotal:
        return
    first = index.reconstruct_n(0, min(LENGTHS_SAMPLED, index.ntotal))
    if not np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-2):
        raise BadInput(f"{path}: ranks vectors of unlike lengths by L2 distance, but here inner products rank: scale them to length 1")
