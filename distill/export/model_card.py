"""README.md of an export, its model card: what it is, how to use it, what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.encoders.encoder import Encoder
from distill.export.index import FOLDER, MEASUREMENTS, describe_index
from distill.export.serving import LATENCY, PYTORCH, describe_choice
from distill.files.atomic import read_json, write_atomically
from distill.training.run_folder import RunFolder

HERE = Path(__file__).parent
TEMPLATE = "model_card.md.jinja"
KEPT = "kept, 95% interval"  # the last row of the table of results


def write_card(folder: Path, run: RunFolder, student: Encoder, teacher: Encoder | None, teacher_name: str) -> None:
    """Writes README.md into the export in `folder`, where it would say something else than the one that is there."""
    latency = optional_measurements(folder / LATENCY)
    index = optional_measurements(folder / FOLDER / MEASUREMENTS)
    card = render_card(run, student, teacher, teacher_name, latency, index)
    path = folder / "README.md"
    if not path.exists() or path.read_text(encoding="utf-8") != card:
        with write_atomically(path) as temporary:
            temporary.write_text(card, encoding="utf-8", errors="replace")


def optional_measurements(path: Path) -> dict[str, Any] | None:
    return read_json(path, "measurements") if path.exists() else None


def render_card(
    run: RunFolder,
    student: Encoder,
    teacher: Encoder | None,
    teacher_name: str,
    latency: dict[str, Any] | None = None,
    index: dict[str, Any] | None = None,
) -> str:
    """The text of the card.

    Args:
        run: the training; its settings and results are on the card.
        student: the exported encoder.
        teacher: its teacher's encoder of documents; None where the model is not here.
        teacher_name: folder or hub name of the teacher.
        latency: the content of latency.json, where the export has ONNX models.
        index: the content of index.json, where it has an index.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    results = optional_measurements(run.path / "results.json")
    prompt = student.settings.prompts["query"]
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    return environment.get_template(TEMPLATE).render(
        teacher=public_name(teacher_name),
        teacher_millions=format_millions(teacher) if teacher else None,
        student_millions=format_millions(student),
        width=student.width,
        max_length=student.settings.max_length,
        prompt=repr(prompt) if prompt else None,
        latency=latency,
        choice=describe_choice(latency) if latency else None,
        onnx_file=find_onnx_file(latency),
        index=index,
        index_description=describe_index(index) if index else None,
        results=results,
        metrics=list(results["retention"]) if results else [],
        rows=make_rows(results) if results else {},
        run=run.path,
        settings=json.dumps(run.settings()["model"], indent=1),
    )


def find_onnx_file(latency: dict[str, Any] | None) -> str | None:
    """The ONNX model that should be served, within the student's folder; None where PyTorch should."""
    if latency is None or latency["serve"] == PYTORCH:
        return None
    return latency["paths"][latency["serve"]]["file"].removeprefix("student/")


def make_rows(results: dict[str, Any]) -> dict[str, list[str]]:
    """The table of results: by system what each metric is, then which share of the teacher's the student keeps."""
    retention = results["retention"]
    rows = {name: [f"{values[metric]:.4f}" for metric in retention] for name, values in results["systems"].items()}
    rows[KEPT] = ["{:.1%} [{:.1%}, {:.1%}]".format(share["value"], *share["ci95"]) for share in retention.values()]
    return rows


def format_millions(encoder: Encoder) -> str:
    """How many million parameters an encoder has."""
    return f"{encoder.parameter_count() / 1e6:.1f}"


def public_name(model: str) -> str:
    """A hub name as it is; of a local folder its last two names, so that no card shows a path of this machine.

    >>> public_name("/home/me/models/acme/small")
    'acme/small'
    """
    return "/".join(Path(model).parts[-2:]) if Path(model).is_absolute() else model
