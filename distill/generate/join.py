"""Joins the shards of generated queries into one file, without duplicates and without any evaluation query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.files.line_shards import LineShardWriter
from distill.files.provenance import collect_provenance
from distill.files.sampling import evenly_spaced_rows
from distill.generate.filters import REASONS, DropReason, RealQueries, find_duplicates, split_words
from distill.generate.minhash import find_near_duplicates
from distill.generate.round_trip import measure_diversity
from distill.generate.shards import ShardMaker, ShardRecord
from distill.records import BadInput

SAMPLE = 1000  # queries from which the diversity of a file is estimated


@dataclass(frozen=True)
class GeneratedQueries:
    """A file of generated queries."""

    path: Path
    count: int  # queries in it
    dropped: dict[DropReason, int]  # number of dropped queries by reason
    diversity: dict[str, dict[str, float]]  # of generated and of real queries; see `measure_diversity`
    existed: bool  # whether an earlier call wrote the file


def join_shards(maker: ShardMaker) -> GeneratedQueries:
    """Writes the whole file; refuses a file that contains a query of an evaluation split."""
    plan, writer = maker.plan, maker.writer
    records = [ShardRecord.load(writer.shard_path(shard)) for shard in range(plan.shards)]
    is_duplicate, dropped = _find_duplicates(records, plan.filters.near_duplicates)
    count = int((~is_duplicate).sum())
    if not count:
        raise BadInput(f"{writer.folder}: nothing is left of {plan.count} queries: {describe_dropped(dropped)}: loosen the filters")
    sample: list[str] = []
    writer.write_file(_iterate_lines(writer, is_duplicate, maker.real, -(-count // SAMPLE), sample))
    real_queries = plan.material.queries
    real_sample = real_queries.read(evenly_spaced_rows(len(real_queries), SAMPLE))
    diversity = measure_diversity(sample, real_sample, maker.teacher)
    writer.finish({"lines": count, "dropped": dropped, "diversity": diversity, "provenance": collect_provenance()})
    return GeneratedQueries(writer.file, count, dropped, diversity, existed=False)


def describe_dropped(dropped: dict[DropReason, int]) -> str:
    """Lists the reasons for which queries were dropped, each with its count.

    >>> describe_dropped({"length": 3, "letters": 0, "duplicate": 1})
    'length 3, duplicate 1'
    """
    return ", ".join(f"{reason} {count}" for reason, count in dropped.items() if count) or "none"


def _find_duplicates(records: list[ShardRecord], similarity: float | None) -> tuple[np.ndarray, dict[DropReason, int]]:
    """Marks the lines of all shards that repeat an earlier one, [N] bool; counts the dropped queries by reason, repeats included."""
    counts = np.sum([record.dropped for record in records], axis=0).tolist()
    dropped = dict(zip(REASONS, counts, strict=True))
    is_duplicate = find_duplicates(np.concatenate([record.keys for record in records]))
    dropped["duplicate"] = int(is_duplicate.sum())
    if similarity:
        signatures = np.concatenate([record.signatures for record in records])
        is_near = find_near_duplicates(signatures, similarity) & ~is_duplicate
        dropped["near duplicate"] = int(is_near.sum())
        is_duplicate |= is_near
    return is_duplicate, dropped


def _iterate_lines(
    writer: LineShardWriter, is_duplicate: np.ndarray, real: RealQueries, sample_every: int, sample: list[str]
) -> Iterator[str]:
    """Yields the lines that are no duplicates; appends every `sample_every`-th text to `sample`."""
    duplicate_flags = iter(is_duplicate)
    count = 0
    for shard, lines in writer.read_shards():
        for line in lines:
            if next(duplicate_flags):
                continue
            text = json.loads(line)["text"]
            if real.is_evaluation_query(split_words(text)):
                raise BadInput(f"{writer.shard_path(shard)}: {text!r} is a query of an evaluation split: delete the folder")
            if count % sample_every == 0:
                sample.append(text)
            count += 1
            yield line
