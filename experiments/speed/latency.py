"""Batch-1 query latency, text to vector, of teacher and two-layer student through each serving path, against sentence-transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from corpora import STUDENT_LAYERS, student, teacher
from harness import arguments, report

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.onnx_encoder import MODELS, OnnxEncoder
from distill.evaluation.latency import ServingPath, measure_query_latency, onnx_path, pytorch_path, torch_threads
from distill.export.serving import PYTORCH, write_models
from distill.texts.sources import QueryFile

QUERIES = 300
PEER, COMPILED = "ST encode", "torch.compile"


def peer(folder: Path) -> ServingPath:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return lambda text: model.encode([text], show_progress_bar=False)


def compiled(folder: Path) -> ServingPath:
    """One graph for all lengths; the first query waits for the C++ compiler."""
    torch.compiler.reset()  # its code is for a number of threads
    encoder = load_encoder(str(folder)).eval()
    encoder.forward = torch.compile(encoder.forward, dynamic=True)
    return pytorch_path(encoder)


def paths(encoder: Encoder, folder: Path, queries: list[str]) -> dict[str, ServingPath]:
    """Every way to ask one encoder, over the same saved folder."""
    encoder.save_pretrained(folder)
    write_models(encoder, folder, queries)
    found = {PEER: peer(folder), PYTORCH: pytorch_path(load_encoder(str(folder)).eval()), COMPILED: compiled(folder)}
    try:
        found[COMPILED](queries[0])
    except Exception as error:  # no C++ compiler: torch wraps what it says in errors of its own
        print(f"{COMPILED} left out: {str(error).splitlines()[0]}")
        del found[COMPILED]
    # as it ships: a query is answered by one core, however many there are, as two need longer to agree
    return found | {name: onnx_path(OnnxEncoder(folder, model=file)) for name, file in MODELS.items()}


def rows(model: str, found: dict[str, ServingPath], queries: list[str], threads: int, rounds: int) -> Iterator[dict[str, Any]]:
    """p50 and p95 of each path over all rounds, and its ratio to the peer's."""
    latency = measure_query_latency(found, queries, rounds, warm_up=min(50, rounds))
    for percentile in ("p50", "p95"):
        theirs = latency[PEER][f"query_latency_ms_{percentile}"]
        for name, measured in latency.items():
            ours = measured[f"query_latency_ms_{percentile}"]
            ratios = {"ratio_to_peer": theirs / ours, "ratio_to_bare": None}
            yield {"name": f"{model}, {name}, {threads} thread" + "s" * (threads > 1), "value": ours, "unit": f"ms {percentile}", **ratios}


def main() -> None:
    given = arguments(__doc__, rounds=QUERIES)
    texts = QueryFile(str(given.data / "msmarco-dl" / "queries.train.tsv")).queries()
    queries = texts.read(np.linspace(0, len(texts) - 1, QUERIES).astype(np.int64))
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for model, encoder in {"student": student().eval(), "teacher": teacher()}.items():
            for threads in given.threads:
                with torch_threads(threads):
                    found = paths(encoder, Path(folder, f"{model}-{threads}"), queries)
                    measured += rows(model, found, queries, threads, given.rounds)
    report("latency", given, {"queries": len(queries), "layers": STUDENT_LAYERS}, measured)


if __name__ == "__main__":
    main()
