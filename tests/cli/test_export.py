"""What the terminal shows of an export."""

from pathlib import Path

from distill.cli.export import format_latency, show
from distill.encoders.maker import Maker
from distill.export.export import Export
from distill.export.index import ExportedIndex
from distill.export.serving import Serving, choose_path

SPEEDS = {"together": 1000.0, "alone": 100.0}
INDEX = {"kind": "ivf", "documents": 9, "queries": 3, "recall@10": 0.98, "queries_per_second": {"exact": SPEEDS, "index": SPEEDS}}
INDEX_LINE = (
    "ivf, 9 documents: recall@10 0.9800 of exact search on 3 dev queries; queries/s of the index and of exact search over the store: "
    "all at once 1000 and 1000, one by one 100 and 100"
)


def path(p50: float, mean: float, file: str = "student/f") -> dict:
    return {"file": file, "query_latency_ms_p50": p50, "query_latency_ms_p95": 2 * p50, "cosine_mean": mean, "cosine_min": mean - 0.1}


PATHS = {"PyTorch": path(4.0, 1.0), "ONNX fp32": path(2.0, 1.0, "student/onnx/model.onnx"), "ONNX int8": path(1.0, 0.9962)}
TEACHER = {"query_latency_ms_p50": 9.0, "query_latency_ms_p95": 12.5}
LATENCY = {"queries": 3, "teacher": TEACHER, "paths": PATHS, "serve": choose_path(PATHS)}
TABLE = [
    "One query at a time on one core, 3 dev queries",
    "            p50 ms  p95 ms  cosine to PyTorch: mean, min",
    "teacher       9.00   12.50",
    "PyTorch       4.00    8.00  1.0000, 0.9000",
    "ONNX fp32     2.00    4.00  1.0000, 0.9000",
    "ONNX int8     1.00    2.00  0.9962, 0.8962",
    "Serve ONNX fp32 (student/onnx/model.onnx); ONNX int8 is faster, but its mean cosine 0.9962 is below 0.999.",
]


def make_export(serving: Serving, is_new: bool = True, router: bool = True, index: ExportedIndex | None = None) -> Export:
    maker = Maker("acme/teacher", "1f", "model" if router else "import")
    folder = Path("out")
    return Export(folder, folder / "student", folder / "router" if router else None, maker, router, serving, index, is_new)


def test_the_table_of_ways_to_serve():
    assert format_latency(LATENCY).splitlines() == TABLE


def test_a_new_export(capsys):
    show(make_export(Serving(LATENCY), index=ExportedIndex(Path("out/index"), INDEX, is_new=True)))
    assert capsys.readouterr().out.splitlines() == [
        *TABLE,
        "out/student: SentenceTransformer('out/student').encode(queries)",
        "out/router: encode_query(...) is the student, encode_document(...) the teacher",
        f"out/index: {INDEX_LINE}",
    ]


def test_an_export_without_a_router_says_how_to_get_it(capsys):
    maker = Maker("acme/teacher", "1f")
    for is_here, line in (
        (True, "The teacher is not copied: --router adds router/, student and teacher as one model"),
        (False, "acme/teacher: its vectors were written by a model, the model is not here: no router/ of student and teacher"),
    ):
        show(Export(Path("out"), Path("out/student"), None, maker, is_here, Serving(LATENCY, is_new=False), None, is_new=True))
        assert capsys.readouterr().out.splitlines() == ["out/student: SentenceTransformer('out/student').encode(queries)", line]


def test_an_export_without_onnx_and_without_a_teacher(capsys):
    show(make_export(Serving(reason="without onnx: install the extra `onnx` and export again"), router=False))
    assert capsys.readouterr().out.splitlines() == [
        "ONNX left out: without onnx: install the extra `onnx` and export again",
        "out/student: SentenceTransformer('out/student').encode(queries)",
        "acme/teacher: its vectors were imported, the model is not here: no router/ of student and teacher",
    ]


def test_an_export_of_before(capsys):
    show(make_export(Serving(LATENCY, is_new=False), is_new=False, index=ExportedIndex(Path("out/index"), INDEX, is_new=False)))
    assert capsys.readouterr().out.splitlines() == [
        "out: done before, the model card as of now",
        "out/router: encode_query(...) is the student, encode_document(...) the teacher",
        f"out/index: done before, {INDEX_LINE}",
    ]
