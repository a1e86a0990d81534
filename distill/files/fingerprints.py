"""Fingerprints: short names for the content of values and files, the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash


def fingerprint(*parts: Any) -> str:
    """16 hex digits over JSON-able values; equal values give equal fingerprints, whatever the order of a mapping's keys.

    >>> fingerprint("a", {"x": 1, "y": 2}) == fingerprint("a", {"y": 2, "x": 1})
    True
    """
    return xxhash.xxh3_64_hexdigest(json.dumps(parts, sort_keys=True, default=str).encode())


def file_fingerprint(path: Path, chunk_bytes: int = 1 << 24) -> str:
    """16 hex digits over a file's bytes, which are read in chunks."""
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()


def hash_values(values: Iterable[bytes]) -> np.ndarray:
    """[N] uint64: one hash for each value."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, values), np.uint64)
