"""`distill encode`: the teacher's vectors of documents and queries into a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from distill.data.sources import QueryFile, TextSource
from distill.data.store import StoreWriter
from distill.data.texts import Texts
from distill.device import Precision, best_device, resolved
from distill.encoders.batched import encode_texts
from distill.encoders.encoder import Encoder, Role
from distill.encoders.pooling import Pooling
from distill.encoders.towers import load_towers
from distill.records import BadInput


def encode(
    teacher: str,
    source: TextSource,
    out: str,
    splits: list[str] | None = None,
    queries: list[str] | None = None,
    precision: Precision = "auto",
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    prompts: dict[str, str] | None = None,
) -> None:
    """Writes the teacher's vectors of a corpus and its queries into a store, shard by shard.

    Run again after a kill it goes on with the missing shards; what is finished is skipped. Under torchrun every rank encodes
    its own shards.

    Args:
        teacher: folder or hub name of the teacher.
        source: where documents and queries come from.
        out: store folder to write.
        splits: splits whose queries to encode; all of the source's by default.
        queries: files of extra queries to encode too.
        precision: number format of the matrix products; auto is bf16 where the device multiplies it natively.
        pooling: only for a plain transformers folder, which does not say it.
        normalize: likewise, whether vectors are scaled to length 1.
        prompts: put before every text, e.g. {query: "query: ", document: "passage: "}; by default the folder's own.
    """
    if Path(out).exists() and any(Path(out).iterdir()) and not (Path(out) / "documents").exists():
        raise BadInput(f"{out}: not a store and not empty: choose another --out")
    towers = load_towers(teacher, pooling, normalize, prompts).to(best_device()).eval()
    sets: list[tuple[str, Texts, Role]] = [("documents", source.documents(), "document")]
    for split in splits or source.splits():
        sets += [(f"queries-{part}", source.queries(part), "query") for part in split.split("+")]
    for path in queries or []:
        texts = QueryFile(path).queries()
        sets.append((f"queries-{texts.name}", texts, "query"))
    names = [name for name, _, _ in sets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"query sets: {', '.join(sorted(twice))} would be written twice: rename the file, or name each split once")
    maker = {
        "name": str(Path(teacher).resolve()) if Path(teacher).is_dir() else teacher,
        "fingerprint": towers.fingerprint(),
        "precision": resolved(precision, towers.device.type),
        "pooling": pooling,
        "normalize": normalize,
        "prompts": prompts,
    }
    for name, texts, role in sets:
        encode_set(towers.tower(role), texts, role, Path(out) / name, maker)


def encode_set(encoder: Encoder, texts: Texts, role: Role, folder: Path, maker: dict[str, Any]) -> None:
    """One set of texts into one store; this process does every `WORLD_SIZE`-th shard, from `RANK`."""
    writer = StoreWriter(folder, texts.ids, encoder.width, {**maker, "role": role}, texts.fingerprint)
    if writer.finished:
        writer.adopt()
        return print(f"{folder}: done before, {len(texts)} vectors")
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    missing = [(shard, rows) for shard, rows in writer.missing() if shard % world == rank]
    todo = sum(len(rows) for _, rows in missing)
    print(f"{folder}: {todo} texts to encode in {maker['precision']} on {encoder.device}", flush=True)
    with tqdm(total=todo, desc=f"encode {folder.name}", unit=" texts", disable=None) as bar:
        for shard, rows in missing:
            vectors = encode_texts(encoder, texts.read(rows), role, maker["precision"], bar.update)
            writer.write(shard, np.asarray(vectors))
    writer.finish()
    print(f"{folder}: {len(texts)} vectors, {encoder.width} wide")
