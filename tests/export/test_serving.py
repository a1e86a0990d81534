"""Which way to serve is recommended, from what was measured."""

from distill.export.serving import choose_path, describe_choice


def path(p50: float, mean: float, file: str = "student/f") -> dict:
    return {"file": file, "query_latency_ms_p50": p50, "query_latency_ms_p95": 2 * p50, "cosine_mean": mean, "cosine_min": mean - 0.1}


def test_the_fastest_that_keeps_the_vectors_is_recommended():
    paths = {"PyTorch": path(4.0, 1.0), "ONNX fp32": path(2.0, 1.0), "ONNX int8": path(1.0, 0.9992)}
    assert choose_path(paths) == "ONNX int8"
    assert choose_path(paths | {"ONNX int8": path(3.0, 0.9992)}) == "ONNX fp32"
    assert choose_path({"PyTorch": path(1.0, 1.0), "ONNX fp32": path(2.0, 1.0)}) == "PyTorch"


def test_a_faster_one_that_does_not_is_named_with_its_cosine():
    paths = {"PyTorch": path(4.0, 1.0), "ONNX fp32": path(2.0, 1.0, "student/onnx/model.onnx"), "ONNX int8": path(1.0, 0.9962)}
    latency = {"queries": 3, "paths": paths, "serve": choose_path(paths)}
    expected = "Serve ONNX fp32 (student/onnx/model.onnx); ONNX int8 is faster, but its mean cosine 0.9962 is below 0.999."
    assert describe_choice(latency) == expected
