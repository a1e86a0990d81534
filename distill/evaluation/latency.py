"""How long one query takes, as a user waits for it.

The package has one figure of latency, and it means the same in results.json, in an export's latency.json, in a report and on a model
card: milliseconds from a query's text to its vector, tokens included; one query at a time; on one core of the CPU, also where there is a
GPU; for the teacher, for the student and for each way to serve it without PyTorch (ONNX models, or NumPy for a table of tokens), which
take turns on the same queries. `p50` is the median over these queries, `p95` what one in twenty exceeds. A model that runs elsewhere, as a
Python function may, is measured where it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn

from distill.encoders.encoder import Encoder
from distill.encoders.onnx_encoder import FP32, MODELS, OnnxEncoder
from distill.encoders.static_encoder import NUMPY, StaticEncoder, is_static
from distill.encoders.towers import Towers
from distill.files.device import has_fast_bf16
from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.records import BadInput
from distill.texts.texts import Texts

EXACT = (NUMPY, FP32)  # ways to serve a student without PyTorch that give its own vectors
ServingPath = Callable[[str], np.ndarray]  # from a query's text to its vector [1, D]

QUERIES = 64  # at most: the ratio of two medians of so many moves by 1% to 2% from run to run, as that of 100 does
MOST_SECONDS = 120.0  # of one measurement; a teacher of billions of parameters needs seconds for a query
LEAST_ROUNDS = 20  # queries that are measured even if they take longer


def sample_queries(queries: Texts) -> list[str]:
    """Reads the queries to measure latency on, evenly spaced over a split."""
    return queries.read(evenly_spaced_rows(len(queries), QUERIES))


def pytorch_path(encoder: Encoder) -> ServingPath:
    """PyTorch as it is, on the device the encoder is on."""
    return lambda text: encoder.encode([text], "query").cpu().numpy()


def onnx_path(encoder: OnnxEncoder) -> ServingPath:
    """ONNX Runtime, on as many threads as the encoder has."""
    return lambda text: encoder.encode([text])


def open_served_paths(folder: Path) -> dict[str, ServingPath]:
    """Opens the ways to serve the student in `folder` without PyTorch, by name: its ONNX models, or NumPy for a table of tokens."""
    if not is_static(folder):
        return {name: onnx_path(OnnxEncoder(folder, model=file)) for name, file in MODELS.items() if (folder / file).is_file()}
    try:
        encoder = StaticEncoder(folder)
    except BadInput as error:  # what is behind the table needs PyTorch
        log.info(str(error))
        return {}
    return {NUMPY: lambda text: encoder.encode([text])}


def measure_query_latency(
    paths: Mapping[str, ServingPath], queries: Sequence[str], rounds: int = QUERIES, warm_up: int = 10
) -> dict[str, dict[str, float]]:
    """Latency of each path as results name it; call it within `one_core`.

    The paths take turns on every query, so that a noisy machine disturbs them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    begin = time.perf_counter()
    for turn in range(warm_up + rounds):
        for name, path in paths.items():
            start = time.perf_counter()
            path(queries[turn % len(queries)])
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
        if turn >= warm_up + LEAST_ROUNDS and time.perf_counter() - begin > MOST_SECONDS:
            break
    milliseconds = {name: (1000 * np.percentile(times, [50, 95])).round(3).tolist() for name, times in seconds.items()}
    return {name: {"query_latency_ms_p50": p50, "query_latency_ms_p95": p95} for name, (p50, p95) in milliseconds.items()}


def as_served(towers: Towers) -> Towers:
    """A teacher as its owner would run it on a CPU: 16-bit weights in fp32 where this CPU does not multiply bf16 itself."""
    return towers if has_fast_bf16("cpu") else towers.float()


@contextmanager
def one_core(models: Iterable[nn.Module]) -> Iterator[None]:
    """Puts models on the CPU, and PyTorch on one core of it; after the block all is as before."""
    with ExitStack() as stack:
        stack.enter_context(torch_threads(1))
        for model in models:
            stack.enter_context(_on_cpu(model))
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on so many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _on_cpu(model: nn.Module) -> Iterator[None]:
    """Moves a model to the CPU, with the attention that is fastest there, and back."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        yield
        return
    device, cpu = parameter.device, torch.device("cpu")
    with _fastest_attention(model, cpu):
        model.to(cpu)
        try:
            yield
        finally:
            model.to(device)


def _fastest_attention(model: nn.Module, device: torch.device) -> AbstractContextManager[None]:
    if not isinstance(model, Encoder):
        return nullcontext()
    return model.transformer.fastest_attention(device, model.settings.max_length)
