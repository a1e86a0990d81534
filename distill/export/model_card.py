"""Writes the model card of an export, README.md: what the model is, how to use it, what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from distill.encoders.encoder import Encoder
from distill.encoders.onnx_encoder import MODELS
from distill.encoders.static_encoder import NUMPY
from distill.encoders.transformer_folder import UNLIMITED
from distill.evaluation.results import describe_queries, format_agreement
from distill.export.index import FOLDER, MEASUREMENTS, describe_index
from distill.export.serving import LATENCY, PYTORCH, describe_choice
from distill.files.atomic import READING_ERRORS, read_json, write_atomically
from distill.records import BadInput, one_line, printable
from distill.training.run_folder import EARLIER_IS_KEPT, RunFolder

LOCAL_PATH = re.compile(r"[/~\\.]|[A-Za-z]:[/\\]")  # the beginning of one
IN_HUB_CACHE = re.compile(r"models--([^/\\]+)[/\\]snapshots")
HOMES = ("home", "Users")  # a user's name follows, which is no part of a model's
HERE = Path(__file__).parent
TEMPLATE = "model_card.md.jinja"
RETENTION_ROW = "kept, 95% interval"  # label of the last row of the table of results


def write_card(folder: Path, run: RunFolder, student: Encoder, teacher: Encoder | None, teacher_name: str, has_router: bool) -> None:
    """Writes README.md into the export in `folder`, unless the same text is there already.

    Raises:
        BadInput: a file of measurements is damaged.
    """
    from jinja2 import UndefinedError

    files = [folder / LATENCY, folder / FOLDER / MEASUREMENTS, run.path / "results.json"]
    latency, index, _ = [read_optional_measurements(file) for file in files]
    try:
        card = render_card(run, student, teacher, teacher_name, has_router, latency, index)
    except (UndefinedError, *READING_ERRORS) as error:
        names = ", ".join(str(file) for file in files if file.exists())
        raise BadInput(f"{names}: not as distill wrote them ({one_line(error)}): restore them, or measure again") from error
    path = folder / "README.md"
    if not path.exists() or path.read_text(encoding="utf-8") != card:
        with write_atomically(path) as temporary:
            temporary.write_text(card, encoding="utf-8", errors="replace")


def read_optional_measurements(path: Path) -> dict[str, Any] | None:
    """Reads a file of measurements; None if there is none."""
    if not path.exists():
        return None
    measurements = read_json(path, "measurements")
    if not isinstance(measurements, dict) or not measurements:
        raise BadInput(f"{path}: not as distill wrote it ({measurements!r:.40}): restore it, or delete it and measure again")
    return measurements


def render_card(
    run: RunFolder,
    student: Encoder,
    teacher: Encoder | None,
    teacher_name: str,
    has_router: bool = False,
    latency: dict[str, Any] | None = None,
    index: dict[str, Any] | None = None,
) -> str:
    """Makes the text of the card.

    Args:
        run: the run folder, whose settings and results are on the card.
        student: the exported encoder.
        teacher: the teacher's encoder of documents; None if the model is not available.
        teacher_name: folder or hub name of the teacher.
        has_router: whether the export has student and teacher as one model.
        latency: content of latency.json, if the export has ONNX models.
        index: content of index.json, if the export has an index.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    results = read_optional_measurements(run.path / "results.json")
    prompt = student.settings.prompts["query"]
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    return environment.get_template(TEMPLATE).render(
        teacher=public_name(teacher_name),
        teacher_millions=format_millions(teacher) if teacher else None,
        has_router=has_router,
        student_millions=format_millions(student),
        width=student.width,
        max_length=student.settings.max_length if student.settings.max_length < UNLIMITED else None,
        prompt=repr(prompt) if prompt else None,
        latency=latency,
        choice=describe_choice(latency) if latency else None,
        onnx_file=find_onnx_file(latency),
        runs_in_numpy=latency is not None and latency["serve"] == NUMPY,
        index=index,
        index_description=describe_index(index) if index else None,
        results=results,
        queries=describe_queries(results) if results else None,
        metrics=list(results["retention"]) if results else [],
        agreement=format_agreement(results) if results else None,
        rows=make_rows(results) if results else {},
        run=run.path.resolve().name,
        earlier_is_kept=EARLIER_IS_KEPT if run.unlearnt_jobs else None,
        settings=json.dumps(hide_paths(run.settings()["model"]), indent=1),
    )


def find_onnx_file(latency: dict[str, Any] | None) -> str | None:
    """Returns the path, in the student's folder, of the ONNX model to serve; None if PyTorch should be served."""
    if latency is None or latency["serve"] == PYTORCH:
        return None
    return MODELS.get(latency["serve"])  # no name out of the file, which is written into Python here


def make_rows(results: dict[str, Any]) -> dict[str, list[str]]:
    """Makes the rows of the table of results: each system's metrics, then the student's retention of each metric."""
    retention = results["retention"]
    rows = {name: [f"{values[metric]:.4f}" for metric in retention] for name, values in results["systems"].items()}
    rows[RETENTION_ROW] = []
    for share in retention.values():
        low, high = share["ci95"]
        rows[RETENTION_ROW].append(f"{share['value']:.1%} [{low:.1%}, {high:.1%}]")
    return rows


def format_millions(encoder: Encoder) -> str:
    """Formats the number of an encoder's parameters in millions."""
    return f"{encoder.parameter_count() / 1e6:.1f}"


def hide_paths(node: Any) -> Any:
    """The same settings with `public_name` for every text, so that no path of this machine is among them.

    >>> hide_paths({"start_from": "/home/me/runs/first", "losses": ["query_matching"]})
    {'start_from': 'runs/first', 'losses': ['query_matching']}
    """
    if isinstance(node, dict):
        return {public_name(str(key)): hide_paths(value) for key, value in node.items()}
    if isinstance(node, list):
        return [hide_paths(value) for value in node]
    return public_name(node) if isinstance(node, str) else node


def public_name(model: str) -> str:
    """Returns a hub name unchanged, and of a local path its end, so that no card shows whose machine it was made on.

    >>> public_name("/home/me/models/acme/small"), public_name("/home/me/small"), public_name("acme/small")
    ('acme/small', 'small', 'acme/small')
    """
    name = printable(model, breaks=False).removeprefix("file://")
    in_cache = IN_HUB_CACHE.search(name)
    if in_cache:
        return in_cache[1].replace("--", "/")
    if not LOCAL_PATH.match(name):
        return name
    parts = [part for part in re.split(r"[/\\]+", name) if part.strip("./~") and not part.endswith(":")]
    if parts and parts[0] in HOMES:
        return "/".join(parts[2:][-2:]) or "model"
    return "/".join(parts[-2:] if len(parts) > 2 else parts[-1:]) or "model"
