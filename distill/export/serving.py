"""Ways to serve an exported student: written beside its PyTorch weights, checked, timed, and one of them recommended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.encoders.encoder import Encoder
from distill.evaluation.latency import ServingPath, measure_query_latency, pytorch_path, torch_threads
from distill.export.onnx_encoder import MODEL, OnnxEncoder
from distill.export.onnx_graph import NoGraph, check_equal, missing_packages, write_graph, write_quantised
from distill.files.atomic import write_atomically, write_json
from distill.files.provenance import collect_provenance
from distill.metrics.ranking import cosine
from distill.records import BadInput
from distill.texts.texts import Texts
from distill.training.run_folder import RunFolder

QUERIES = 200
SAME = 0.999  # mean cosine to the fp32 student from which a path ranks as the student does
PYTORCH = "PyTorch"
QUANTISED = "onnx/model_qint8.onnx"
ONNX_PATHS = {"ONNX fp32": MODEL, "ONNX int8": QUANTISED}  # by their file in the student's folder


def add_serving(student: Encoder, run: RunFolder, folder: Path) -> None:
    """Adds the ONNX models and `latency.json` to an export in `folder`, or says in one line why not."""
    if (folder / "latency.json").exists():
        return
    if missing := missing_packages():
        return print(f"ONNX left out: without {', '.join(missing)}: install the extra `onnx` and export again")
    try:
        queries = sample_queries(run)
        write_models(student, folder / "student", queries)
    except (NoGraph, BadInput) as error:
        return print(f"ONNX left out: {error}")
    latency = measure_serving(student, folder / "student", queries)
    write_json(folder / "latency.json", latency)  # last: its existence means that this part is whole
    print(format_latency(latency))


def sample_queries(run: RunFolder) -> list[str]:
    """Some of the run's dev queries, from all over the split."""
    data = run.data()
    return spread_texts(data.source.queries(data.dev_split), QUERIES)


def spread_texts(texts: Texts, most: int) -> list[str]:
    """Up to `most` of `texts`, from all over them."""
    return texts.read(np.unique(np.linspace(0, len(texts) - 1, min(most, len(texts))).astype(np.int64)))


def write_models(student: Encoder, folder: Path, queries: Sequence[str]) -> None:
    """`onnx/` in a sentence-transformers folder: the graph in fp32, which equals the student, and with 8-bit weights."""
    with write_atomically(folder / Path(MODEL).parent) as temporary:
        temporary.mkdir()
        graph = temporary / Path(MODEL).name
        write_graph(student, graph)
        by_length = sorted(queries, key=len)
        lengths = np.unique(np.linspace(0, len(by_length) - 1, min(8, len(by_length))).astype(int))
        check_equal(student, OnnxEncoder(folder, model=f"{temporary.name}/{graph.name}"), [by_length[i] for i in lengths])
        write_quantised(graph, temporary / Path(QUANTISED).name)


def measure_serving(student: Encoder, folder: Path, queries: Sequence[str]) -> dict[str, Any]:
    """Each way to serve a student: latency at batch 1 on one core, and cosine to the student's own vectors."""
    paths = {PYTORCH: pytorch_path(student)} | {name: onnx_path(OnnxEncoder(folder, model=file)) for name, file in ONNX_PATHS.items()}
    with torch_threads(1):
        latency = measure_query_latency(paths, queries)
        vectors = {name: torch.from_numpy(np.concatenate([path(text) for text in queries])) for name, path in paths.items()}
    found = {}
    for name in paths:
        agreement = cosine(vectors[PYTORCH], vectors[name])
        found[name] = {
            "file": f"student/{ONNX_PATHS.get(name, 'model.safetensors')}",
            **latency[name],
            "cosine_mean": float(agreement.mean()),
            "cosine_min": float(agreement.min()),
        }
    return {"queries": len(queries), "threads": 1, "processor": collect_provenance()["processor"], "paths": found, "serve": choose_path(found)}


def choose_path(paths: dict[str, dict[str, Any]]) -> str:
    """The fastest path whose vectors are as good as the student's own."""
    good = {name: path for name, path in paths.items() if path["cosine_mean"] >= SAME}
    return min(good, key=lambda name: good[name]["query_latency_ms_p50"])


def format_latency(latency: dict[str, Any]) -> str:
    """What the terminal shows: a line a path, then which one to take."""
    lines = [
        f"One query at a time on one core, {latency['queries']} dev queries",
        f"{'':<10}  p50 ms  p95 ms  cosine to PyTorch: mean, min",
    ]
    for name, path in latency["paths"].items():
        times = f"{path['query_latency_ms_p50']:8.2f}{path['query_latency_ms_p95']:8.2f}"
        lines.append(f"{name:<10}{times}  {path['cosine_mean']:.4f}, {path['cosine_min']:.4f}")
    return "\n".join([*lines, describe_choice(latency)])


def describe_choice(latency: dict[str, Any]) -> str:
    """Which path to serve, and why not one that is faster."""
    paths, serve = latency["paths"], latency["serve"]
    faster = [name for name in paths if paths[name]["query_latency_ms_p50"] < paths[serve]["query_latency_ms_p50"]]
    why = "".join(f"; {name} is faster, but its mean cosine {paths[name]['cosine_mean']:.4f} is below {SAME}" for name in faster)
    return f"Serve {serve} ({paths[serve]['file']}){why}."


def onnx_path(encoder: OnnxEncoder) -> ServingPath:
    return lambda text: encoder.encode([text])
