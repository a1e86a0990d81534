"""What each model of an evaluation costs: parameters and latency, of ONNX models too where `export` left some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.encoders.onnx_encoder import MODELS
from distill.encoders.static_encoder import NUMPY, is_static
from distill.evaluation.latency import EXACT, ServingPath, measure_query_latency, one_core, open_served_paths
from distill.evaluation.systems import System
from distill.files.atomic import read_json
from distill.training.run_folder import RunFolder


@dataclass(frozen=True)
class Timing:
    """The queries that latency is measured on, and the student's ONNX models.

    Args:
        split: name of the queries.
        queries: some of them.
        served: by name, from a query's text to its vector [1, D].
    """

    split: str
    queries: list[str]
    served: Mapping[str, ServingPath] = field(default_factory=dict)

    def measure_costs(self, systems: Mapping[str, System]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Measures every model at once, so that they wait for the same machine.

        Returns:
            Parameters and latency by system; and the field `latency` of results.json: what was measured how, and each ONNX model.
        """
        paths: dict[str, ServingPath] = {name: system.encode_one for name, system in systems.items()}
        with one_core([system.module for system in systems.values() if system.module is not None]):
            latency = measure_query_latency({**paths, **self.served}, self.queries)
        costs = {name: {**system.cost, **latency[name]} for name, system in systems.items()}
        served = {name: latency[name] for name in self.served}
        return costs, {"split": self.split, "queries": len(self.queries), "threads": 1, "paths": served}


def open_exported(run: RunFolder, fingerprint: str | None) -> dict[str, ServingPath]:
    """Opens the ONNX models that `distill export` left in a run folder, by their names in results; a table of tokens needs none.

    Args:
        run: the run folder.
        fingerprint: that of the student: an export of another one is passed over.
    """
    if is_static(run.student):
        return open_served_paths(run.student)
    export = run.path / "export"
    if find_spec("onnxruntime") is None or not (export / "export.json").exists():
        return {}
    if read_json(export / "export.json", "inputs of the export").get("student") != fingerprint:
        return {}
    return open_served_paths(export / "student")


def read_served(run: Path, values: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Reads the latency of each way to serve a student without PyTorch: from its evaluation, or from an export after it on this processor.

    Args:
        run: the run folder.
        values: the fields of its results.json; releases before 0.2 measured on all cores, and wrote no field `latency`.
    """
    if "latency" not in values:
        return {}
    path = run / "export" / "latency.json"
    exported = read_json(path, "latency of the export") if path.exists() else {}
    if exported.get("processor") != values["provenance"].get("processor"):
        exported = {}
    served = {name: model for name, model in exported.get("paths", {}).items() if name in (*MODELS, NUMPY)}
    return served | values["latency"]["paths"]


def read_exact(run: Path, values: Mapping[str, Any]) -> dict[str, float]:
    """Reads the latency of that one of them which gives the student's own vectors; empty where none does."""
    served = read_served(run, values)
    return next((served[name] for name in EXACT if name in served), {})
