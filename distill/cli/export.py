"""`distill export`: the student for other programs."""

from __future__ import annotations

from typing import Any

from distill.cli.terminal import show_text
from distill.export.export import Export, export
from distill.export.index import describe_index
from distill.export.serving import describe_choice


def show(result: Export) -> None:
    """Prints what was written and what was left out, and why."""
    serving = result.serving
    if serving.latency is None:
        show_text(f"ONNX left out: {serving.reason}")
    elif serving.is_new:
        show_text(format_latency(serving.latency))
    if not result.is_new:
        show_text(f"{result.folder}: done before, the model card as of now")
    else:
        show_text(f"{result.student}: SentenceTransformer({str(result.student)!r}).encode(queries)")
    if result.router is not None:
        show_text(f"{result.router}: encode_query(...) is the student, encode_document(...) the teacher")
    elif result.teacher_is_here:
        show_text("The teacher is not copied: --router adds router/, student and teacher as one model")
    else:
        origin = result.teacher.describe_origin()
        show_text(f"{result.teacher.name}: its vectors {origin}, the model is not here: no router/ of student and teacher")
    if result.index is not None:
        done_before = "" if result.index.is_new else "done before, "
        show_text(f"{result.index.folder}: {done_before}{describe_index(result.index.measurements)}")


def format_latency(latency: dict[str, Any]) -> str:
    """A line for the teacher, where it is here, and for each way to serve the student; then which one to take."""
    lines = [
        f"One query at a time on one core, {latency['queries']} dev queries",
        f"{'':<10}  p50 ms  p95 ms  cosine to PyTorch: mean, min",
    ]
    teacher = latency.get("teacher")  # releases before 0.2 did not measure it
    if teacher is not None:
        lines.append(f"{'teacher':<10}{teacher['query_latency_ms_p50']:8.2f}{teacher['query_latency_ms_p95']:8.2f}")
    for name, path in latency["paths"].items():
        times = f"{path['query_latency_ms_p50']:8.2f}{path['query_latency_ms_p95']:8.2f}"
        lines.append(f"{name:<10}{times}  {path['cosine_mean']:.4f}, {path['cosine_min']:.4f}")
    return "\n".join([*lines, describe_choice(latency)])


FUNCTION = export
