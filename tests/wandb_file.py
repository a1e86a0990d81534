"""What an offline wandb run left on disk: its record file is protocol buffers in LevelDB's log format."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32_768, 7
WHOLE, FIRST, LAST = 1, 2, 4


def records(folder: Path) -> Iterator[Any]:
    """Every record of the offline run in `folder`, in order."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    data, place, part = path.read_bytes(), HEADER, b""
    assert data[:4] == b":W&B"
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # the rest of a block that no header fits into
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + HEADER])
        chunk = data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        part = chunk if kind in (WHOLE, FIRST) else part + chunk
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            yield record


def wait_for_the_end(folders: list[Path], seconds: float = 60) -> None:
    """wandb's own process writes the last records after the run has been told to finish."""
    end = time.monotonic() + seconds
    while not all(any(record.WhichOneof("record_type") == "exit" for record in records(folder)) for folder in folders):
        assert time.monotonic() < end, "the run was never finished"
        time.sleep(0.1)


def history(folder: Path) -> list[dict[str, Any]]:
    """The logged lines."""
    lines = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            pairs = ((item.key or ".".join(item.nested_key), json.loads(item.value_json)) for item in record.history.item)
            lines.append(dict(pairs))
    return lines
