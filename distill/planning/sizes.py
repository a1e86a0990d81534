"""Bytes on disk and in memory, from what is written and held."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.lib import format as npy

from distill.encoders.batching import batch_memory
from distill.encoders.device_batches import TOKENS_PER_BATCH
from distill.encoders.encoder import Encoder
from distill.encoders.maker import Maker
from distill.files.atomic import encode_json
from distill.planning.amounts import Amount
from distill.teachers.shard_size import rows_for_rate
from distill.vectors.faiss_index import DOCUMENTS_PER_CLUSTER, NEIGHBOURS, Kind
from distill.vectors.search import NUMBERS_PER_CHUNK, SCORES_PER_BLOCK
from distill.vectors.store_plan import StorePlan
from distill.vectors.store_writer import MOST_SHARDS, ROWS_PER_SHARD

DIGEST = "0" * 16  # stands for a fingerprint, all of which are of one length
SINGLE, LONG = 4, 8  # bytes of a number in fp32, and of a row's number
TEXT_BYTES = 17 + LONG  # of a text in memory beside its id: where it lies in its file, and its place in the order of ids
STATES = 3  # tensors of a checkpoint for each weight: the weight, and two of AdamW
CHECKPOINTS = 2  # the last and the best
GRADIENT = 1
QUANTISED = 1  # byte of a weight of the 8-bit model
SHARDS_HELD = 3  # one is prepared, one embedded, one written


def plan_store(amount: Amount, maker: Maker, width: int, rate: float | None) -> StorePlan:
    """Plans the store of a set of texts as `encode` does, by the texts that are embedded in a second; None is a fast teacher."""
    rows = ROWS_PER_SHARD if rate is None else rows_for_rate(rate, amount.count, ROWS_PER_SHARD)
    return StorePlan(amount.count, width, max(rows, -(-amount.count // MOST_SHARDS)), maker, DIGEST, DIGEST)


def store_bytes(plan: StorePlan, id_bytes: int) -> int:
    """Counts the bytes of all files of a complete store."""
    sizes = plan.shard_sizes
    shards = (len(sizes) - 1) * array_bytes((sizes[0], plan.width), "<f2") + array_bytes((sizes[-1], plan.width), "<f2")
    ids = array_bytes((plan.rows,), f"|S{id_bytes}") + array_bytes((plan.rows,), "<i8")
    record = plan.to_json()
    manifest = {**record, "checksums": dict.fromkeys(plan.files, DIGEST)}
    return shards + ids + len(encode_json(record)) + len(encode_json(manifest))


def array_bytes(shape: Sequence[int], numbers: str) -> int:
    """Counts the bytes of a `.npy` file.

    >>> array_bytes((2, 3), "<f2")  # 12 bytes behind a header of 128
    140
    """
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": numbers, "fortran_order": False, "shape": tuple(shape)})
    return len(header.getvalue()) + int(np.prod(shape, dtype=np.int64)) * np.dtype(numbers).itemsize


def run_bytes(weights: int) -> int:
    """Counts the bytes of a training's checkpoints and student, about."""
    return weights * SINGLE * (CHECKPOINTS * STATES + 1)


def export_bytes(student: Encoder) -> int:
    """Counts the bytes of an exported student, about: its folder, and its ONNX models in fp32 and in 8 bits, but for the word table."""
    weights, table = student.parameter_count(), student.word_table.weight.numel()
    graphs = weights * SINGLE + table * SINGLE + (weights - table) * QUANTISED
    return weights * SINGLE + (graphs if student.transformer.has_layers else 0)


def index_bytes(kind: Kind, documents: Amount, width: int) -> int:
    """Counts the bytes of a faiss index and of its file of ids, about.

    >>> index_bytes("flat", Amount("documents", 1_000, 3, ()), width=4)
    20000
    """
    rows, ids = documents.count, documents.count * (documents.id_bytes + 1)
    if kind == "flat":
        return rows * width * SINGLE + ids
    if kind == "ivf":
        clusters = max(1, min(round(4 * rows**0.5), rows // DOCUMENTS_PER_CLUSTER))
        return rows * (width * 2 + LONG) + clusters * width * SINGLE + ids
    links = 2 * NEIGHBOURS + 1  # those of the lowest layer, and about one of all others
    return rows * (width * 2 + links * SINGLE + LONG + SINGLE) + ids


def texts_memory(amount: Amount) -> int:
    """Bytes in memory of texts in a file, of which ids and places are held."""
    return amount.count * (TEXT_BYTES + amount.id_bytes)


def encode_memory(plan: StorePlan) -> int:
    """Bytes in memory of the shards that are at work at once."""
    return SHARDS_HELD * min(plan.rows_per_shard, plan.rows) * plan.width * SINGLE


def gpu_encode_memory(teacher: Encoder) -> int:
    """Bytes on a GPU of a model in bf16 and of one batch."""
    return teacher.parameter_count() * 2 + batch_memory(TOKENS_PER_BATCH["cuda"], teacher.transformer.numbers_per_token, "bf16")


def gpu_train_memory(student: Encoder, tokens: float, batch_size: int) -> int:
    """Bytes on a GPU of weights, gradients and AdamW's moments, and of what each layer keeps of a batch for its backward pass."""
    layers = student.backbone.config.num_hidden_layers if student.transformer.has_layers else 1
    states = batch_size * tokens * layers * student.transformer.numbers_per_token * SINGLE
    return round(student.parameter_count() * SINGLE * (STATES + GRADIENT) + states)


def gpu_search_memory(documents: int, width: int) -> int:
    """Bytes on a GPU of a chunk of documents, as stored, in fp32 and rounded, and of a block of scores."""
    return min(documents * width, NUMBERS_PER_CHUNK["cuda"]) * (2 + SINGLE + 2) + SCORES_PER_BLOCK["cuda"] * SINGLE
