"""Writes ONNX models of an exported student, checks and times them, and recommends one to serve; a table of tokens runs in NumPy.

`distill.evaluation.latency` says what the figures of latency mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.encoders.encoder import Encoder
from distill.encoders.onnx_encoder import MODEL, MODELS, QUANTISED, OnnxEncoder
from distill.encoders.static_rows import STATIC, WEIGHTS
from distill.evaluation.fields import TEACHER
from distill.evaluation.latency import EXACT, ServingPath, measure_query_latency, one_core, open_served_paths, pytorch_path, sample_queries
from distill.export.onnx_graph import NoGraph, check_equal, missing_packages, write_graph, write_quantised
from distill.files.atomic import read_json, write_atomically, write_json
from distill.files.provenance import collect_provenance
from distill.files.sampling import evenly_spaced_rows
from distill.metrics.ranking import cosine
from distill.records import BadInput, NeedsTrust
from distill.training.run_folder import RunFolder

LATENCY = "latency.json"  # file in the folder of an export
CHECKED = 8  # dev queries on which ONNX Runtime has to equal PyTorch
SAME = 0.999  # least mean cosine to the fp32 student at which a model is as good as the student
PYTORCH = "PyTorch"


@dataclass(frozen=True)
class Serving:
    """The models of an export that can be served, with their measurements.

    Attributes:
        latency: content of latency.json, with the measurements of each model; None if there are no ONNX models.
        reason: why there are no ONNX models; None if there are some, or if the student is a table of tokens, which needs none.
        is_new: whether this call measured them; False if an earlier export did.
    """

    latency: dict[str, Any] | None = None
    reason: str | None = None
    is_new: bool = True


def add_serving(student: Encoder, teacher: Encoder | None, run: RunFolder, folder: Path) -> Serving:
    """Adds the ONNX models and latency.json to the export in `folder`, unless it has them already.

    Args:
        student: the exported encoder.
        teacher: the teacher's encoder of queries, to be timed beside the student; None if the model is not available.
        run: run folder, on whose dev queries the models are compared.
        folder: folder of the export.
    """
    if (folder / LATENCY).exists():
        return Serving(read_json(folder / LATENCY, "measurements"), is_new=False)
    needs_graph = student.transformer.has_layers
    missing = missing_packages() if needs_graph else []
    if missing:
        return Serving(reason=f"without {', '.join(missing)}: install the extra `onnx` and export again")
    try:
        data = run.data()
        queries = sample_queries(data.source.queries(data.dev_split))
        if needs_graph:
            write_models(student, folder / "student", queries)
    except NeedsTrust:
        raise
    except (NoGraph, BadInput) as error:
        return Serving(reason=str(error))
    latency = measure_serving(student, teacher, folder / "student", queries)
    write_json(folder / LATENCY, latency)  # written last: if it exists, the models are complete
    return Serving(latency)


def write_models(student: Encoder, folder: Path, queries: Sequence[str], quantised: bool = True) -> None:
    """Writes graphs into `onnx/` of a sentence-transformers folder: in fp32, equal to the student, and by default with 8-bit weights.

    Raises:
        NoGraph: the student cannot be written so, or the fp32 graph gives other vectors than the student for some of the `queries`.
    """
    by_length = sorted(queries, key=len)
    with write_atomically(folder / Path(MODEL).parent) as temporary:
        temporary.mkdir()
        graph = temporary / Path(MODEL).name
        write_graph(student, graph)
        served = OnnxEncoder(folder, model=f"{temporary.name}/{graph.name}")
        check_equal(student, served, [by_length[row] for row in evenly_spaced_rows(len(by_length), CHECKED)])
        if quantised:
            write_quantised(graph, temporary / Path(QUANTISED).name)


def open_exact_path(student: Encoder, folder: Path, queries: Sequence[str]) -> ServingPath | None:
    """Writes a student into a new folder, and opens what serves it without PyTorch and with its own vectors; None where nothing does."""
    student.save_pretrained(folder)
    if student.transformer.has_layers:
        if missing_packages():
            return None
        try:
            write_models(student, folder, queries, quantised=False)
        except (NoGraph, BadInput):
            return None
    return next((path for name, path in open_served_paths(folder).items() if name in EXACT), None)


def measure_serving(student: Encoder, teacher: Encoder | None, folder: Path, queries: Sequence[str]) -> dict[str, Any]:
    """Measures each model of the student: its latency beside the teacher's, and the cosine of its vectors to the student's."""
    paths = {PYTORCH: pytorch_path(student), **open_served_paths(folder)}
    own_file = WEIGHTS if student.transformer.has_layers else f"0_{STATIC}/{WEIGHTS}"
    teacher_path = {} if teacher is None else {TEACHER: pytorch_path(teacher)}
    with one_core([student] if teacher is None else [student, teacher]):
        latency = measure_query_latency({**teacher_path, **paths}, queries)
        vectors = {name: torch.from_numpy(np.concatenate([path(text) for text in queries])) for name, path in paths.items()}  # [Q, D]
    measured = {}
    for name in paths:
        own, other = vectors[PYTORCH], vectors[name]
        agreement = torch.where((own == other).all(dim=1), 1.0, cosine(own, other))  # [Q]; a text without tokens may have the vector 0
        measured[name] = {
            "file": f"student/{MODELS.get(name, own_file)}",
            **latency[name],
            "cosine_mean": float(agreement.mean()),
            "cosine_min": float(agreement.min()),
        }
    return {
        "queries": len(queries),
        "threads": 1,
        "processor": collect_provenance()["processor"],
        TEACHER: latency.get(TEACHER),
        "paths": measured,
        "serve": choose_path(measured),
    }


def choose_path(paths: dict[str, dict[str, Any]]) -> str:
    """Chooses the fastest model whose vectors are as good as the student's.

    >>> slow = {"cosine_mean": 1.0, "query_latency_ms_p50": 4.0}
    >>> choose_path({"PyTorch": slow, "ONNX int8": {"cosine_mean": 0.9995, "query_latency_ms_p50": 1.0}})
    'ONNX int8'
    """
    as_good = {name: path for name, path in paths.items() if name == PYTORCH or path["cosine_mean"] >= SAME}
    return min(as_good, key=lambda name: as_good[name]["query_latency_ms_p50"])


def describe_choice(latency: dict[str, Any]) -> str:
    """Describes the recommended model, and why faster ones are not recommended."""
    paths = latency["paths"]
    choice = paths[latency["serve"]]
    reasons = [
        f"; {name} is faster, but its mean cosine {path['cosine_mean']:.4f} is below {SAME}"
        for name, path in paths.items()
        if path["query_latency_ms_p50"] < choice["query_latency_ms_p50"]
    ]
    return f"Serve {latency['serve']} ({choice['file']}){''.join(reasons)}."
