"""What one unit of each kind of work costs: on this machine, as `measuring` times it, or on a GPU by rates that were measured there."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from distill.encoders.encoder import Encoder
from distill.files.atomic import read_json
from distill.planning.operations import PASSES, count_operations
from distill.records import BadInput

HALF = 2  # bytes of a stored number
NOT_MEASURED = "times are not measured yet: run experiments/speed/gpu.py on such a GPU, and give what it writes as --rates"


@dataclass(frozen=True)
class Rates:
    """What one GPU does in a second, as experiments/speed/gpu.py writes it under `rates`; None is not measured.

    Args:
        device: name of the GPU.
        gpu_memory: bytes of one.
        encode: operations of a teacher that embeds documents.
        train: operations of a student's training steps, their backward passes included, in large batches.
        step: not a rate but the seconds that a training step takes at least, however small the batch.
        search: operations of an exact search, 2 x queries x documents x width.
        copy: bytes from the host to the GPU.
        write: bytes of a store to disk.
    """

    device: str = "GPU"
    gpu_memory: float | None = None
    encode: float | None = None
    train: float | None = None
    step: float | None = None
    search: float | None = None
    copy: float | None = None
    write: float | None = None


def read_rates(path: str | Path) -> Rates:
    """Reads the rates in a JSON file; refuses one without any, and values that are no rates."""
    value = read_json(Path(path), "file of measured rates")
    rates = value.get("rates") if isinstance(value, dict) else None
    if not isinstance(rates, dict) and isinstance(value, dict) and value.get("simulated"):
        raise BadInput(f"{path}: made on a simulated GPU, whose figures mean nothing: run experiments/speed/gpu.py on a real one")
    if not isinstance(rates, dict):
        raise BadInput(f"{path}: no rates in it: give a file that experiments/speed/gpu.py wrote")
    known = {field.name for field in fields(Rates)}
    numbers = {name: number for name, number in rates.items() if name in known - {"device"} and number is not None}
    for name, number in numbers.items():
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number < float("inf"):
            raise BadInput(f"{path}: rates.{name} is {number!r}: give a number above 0 a second, or leave it out")
    if not numbers:
        raise BadInput(f"{path}: none of its rates is known: there are {', '.join(sorted(known))}")
    return Rates(str(rates.get("device") or Rates.device), **numbers)


@dataclass(frozen=True)
class UnitTimes:
    """Seconds that one unit of each kind of work takes on one device; None is not known.

    Args:
        device: where they were measured, for the table.
        document: to embed a document.
        query: to embed a query by the teacher.
        document_tokens: to cut a document into tokens, while others are embedded.
        query_tokens: the same of a query.
        step: of training.
        evaluation: of an evaluation on dev, beside its searches.
        pair: of exact search, for a query and a document.
        scan: of exact search, for a document whatever the number of queries.
        byte: of a store, to disk.
        latency: of all that one query costs in a measurement of latency: teacher and student.
        load: to open teacher and student.
    """

    device: str
    document: float | None = None
    query: float | None = None
    document_tokens: float | None = None
    query_tokens: float | None = None
    step: float | None = None
    evaluation: float | None = None
    pair: float | None = None
    scan: float | None = None
    byte: float | None = None
    latency: float | None = None
    load: float | None = None


def derive_times(
    rates: Rates, teacher: Encoder, student: Encoder, documents: np.ndarray, queries: np.ndarray, batch_size: int, here: UnitTimes
) -> UnitTimes:
    """Derives the seconds of each unit of work from the rates of a GPU and the sizes of the models.

    Args:
        rates: of the GPU.
        teacher: embeds documents and queries.
        student: is trained.
        documents: [n] tokens of some documents.
        queries: [n] tokens of some queries.
        batch_size: queries of a step.
        here: what was measured on this machine; what runs on the CPU is taken from it: tokens, latency, the disk unless the rates have one.
    """

    def divide(amount: float, rate: float | None) -> float | None:
        return None if rate is None else amount / rate

    step = divide(PASSES * batch_size * count_operations(student, queries) / len(queries), rates.train)
    return replace(
        here,
        device=rates.device,
        document=divide(count_operations(teacher, documents) / len(documents), rates.encode),
        query=divide(count_operations(teacher, queries) / len(queries), rates.encode),
        step=None if step is None or rates.step is None else max(step, rates.step),
        evaluation=0.0,
        pair=divide(2 * teacher.width, rates.search),
        scan=divide(HALF * teacher.width, rates.copy),
        byte=here.byte if rates.write is None else 1 / rates.write,
    )


def multiply(count: float, seconds: float | None) -> float | None:
    """The seconds of `count` units; None where those of one are not known."""
    return None if seconds is None else count * seconds


def add(*parts: float | None) -> float | None:
    """The sum of seconds; None where one of them is not known.

    >>> add(1.0, 2.0), add(1.0, None)
    (3.0, None)
    """
    return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)
