"""Arrays that are worked out once and kept beside their checksum: a missing or damaged one is worked out again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from distill.artefacts import file_fingerprint, written_atomically


def kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in the `.npy` file `path`, memory-mapped; what `make` returns where there is none or its bytes changed."""
    checksum = path.with_suffix(".xxh3")
    if not (path.exists() and checksum.exists() and checksum.read_bytes() == file_fingerprint(path).encode()):
        with written_atomically(path) as temporary, open(temporary, "wb") as file:
            np.save(file, make())
        with written_atomically(checksum) as temporary:
            temporary.write_text(file_fingerprint(path))
    return np.load(path, mmap_mode="r", allow_pickle=False)
