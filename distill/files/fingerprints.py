"""Fingerprints: short names for the content of values and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xxhash


def fingerprint(*parts: Any) -> str:
    """16 hex digits over JSON-able values; equal inputs give equal fingerprints on every machine."""
    return xxhash.xxh3_64_hexdigest(json.dumps(parts, sort_keys=True, default=str).encode())


def file_fingerprint(path: Path, chunk_bytes: int = 1 << 24) -> str:
    """xxh3 of a file's bytes, read in chunks."""
    digest = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()
